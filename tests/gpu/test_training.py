"""The trainer's step on a GPU: batches on a stream of their own, mixed precision, no wait for the device within a step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ppcore.classifiers import ClassifierSpec, build, find_heads
from pptrain.config import load_config
from pptrain.config.settings import ViewsConfig
from pptrain.data import ViewKey, ViewKind, Views
from pptrain.engine.prepare import prepare_run
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.state import make_state
from pptrain.engine.step import StepRunner, open_batches
from pptrain.evaluation import LossAverages
from pptrain.models import Graphs, Network

ROOT = Path(__file__).parents[2]
KINDS: dict[str, dict[str, Any]] = {
    "supervised": {"method.options": {"mixup": 0.4, "cutmix": 0.4}},
    "resized": {"method.name": "uda", "views.crop": "resized", "optim.clip": 0.5, "optim.name": "sgd"},
    "fp16": {"method.name": "uda", "loop.amp": "fp16", "optim.accumulate": 2},
    "split": {"method.name": "uda", "method.batch_norm": "split"},
    **{
        name: {"method.name": name} for name in ("vat", "flexmatch", "freematch", "softmatch", "mean-teacher")
    },
}


def runner_of(kind: str, cuda: torch.device, **more: Any) -> StepRunner:
    settings: dict[str, Any] = {"data.target": "digits", "data.labels_per_class": 4, "out": "none"}
    settings |= {"optim.steps": 20, "optim.batch_size": 8, "method.name": "supervised", **KINDS[kind]}
    if settings["method.name"] != "supervised":
        settings |= {"data.unlabeled": "target:digits", "method.options": {"mu": 2.0}}
    group = ProcessGroup(str(cuda))
    prepared = prepare_run(load_config(overrides={**settings, **more}), group)
    return StepRunner(prepared, make_state(prepared, group.device), group, LossAverages(group.device))


@pytest.mark.parametrize("crop", ["shift", "resized"])
@pytest.mark.parametrize("kind", ViewKind)
@pytest.mark.parametrize(("stored", "side"), [(256, 224), (256, 32), (32, 32)])
def test_views_show_the_pixels_of_a_cpu(
    kind: ViewKind, crop: str, stored: int, side: int, cuda: torch.device
) -> None:
    images = torch.randint(0, 256, (16, 3, stored, stored), dtype=torch.uint8)
    views = Views(ViewsConfig(crop=crop), side, 3, seed=0)
    on_cpu, on_gpu = (views.make(u, kind, ViewKey("x", 0)).cpu() for u in (images, images.to(cuda)))
    assert (
        on_cpu - on_gpu
    ).abs().mean() < 0.002  # half a grey level; edges of the erased square are rounded otherwise


GRAPHED = [kind for kind in KINDS if "optim.accumulate" not in KINDS[kind]]


@pytest.mark.parametrize("kind", [*KINDS, *(f"{kind}, graphs" for kind in GRAPHED)])
def test_a_step_does_not_wait_for_the_device(kind: str, cuda: torch.device) -> None:
    kind, graphs, _ = kind.partition(", graphs")
    runner = runner_of(kind, cuda, **{"loop.graphs": bool(graphs)})
    with open_batches(runner.prepared, 0) as batches:
        for _ in range(3):
            runner.run(batches)
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(3):
                runner.run(batches)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert runner.averages.first_bad_step() is None


@pytest.mark.parametrize("kind", GRAPHED)
def test_graphs_change_no_weight(kind: str, cuda: torch.device) -> None:
    """Batch norm's running statistics and random numbers are those of plain steps too.

    A graph may round otherwise, and `vat` probes with differences so small that it enlarges rounding: there, plain steps from weights
    a millionth apart say what is no difference.
    """

    def after_steps(graphs: bool, nudge: float = 0.0) -> dict[str, torch.Tensor]:
        more = {"loop.amp": "bf16", "loop.channels_last": True, "optim.name": "sgd", "optim.lr": 0.03}
        runner = runner_of(kind, cuda, **more, **{"loop.graphs": graphs})
        with torch.no_grad():
            for weight in runner.state.network.parameters():
                weight.mul_(1.0 + nudge)
        with open_batches(runner.prepared, 0) as batches:
            for _ in range(6):
                runner.run(batches)
        assert (runner.state.network.graphs is not None) == graphs
        return runner.state.network.state_dict()

    def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
        return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)

    plain = after_steps(graphs=False)
    allowed = 1e-4 + (3.0 * apart(plain, after_steps(graphs=False, nudge=1e-6)) if kind == "vat" else 0.0)
    assert apart(plain, after_steps(graphs=True)) <= allowed


def test_the_source_head_learns_through_graphs_as_without(cuda: torch.device) -> None:
    spec = ClassifierSpec("mobile", ("a", "b"), channels=1, resolution=32)
    x, grads = torch.rand(16, 1, 32, 32, device=cuda), []
    for graphs in (None, Graphs()):
        torch.manual_seed(0)
        network = Network(build("mobile", 2, 1), spec)
        network.source_head = torch.nn.Linear(find_heads(network.net)[0].in_features, 5)
        network.to(cuda).train().graphs = graphs
        for _ in range(3):
            if graphs is not None:
                graphs.next_batch()
            network.zero_grad(set_to_none=True)
            target, source = network.with_source(x)
            again = network(x)  # a second pass of the batch runs as it is
            (target.square().mean() + source.square().mean() + again.square().mean()).backward()
        grads.append([p.grad for p in network.parameters()])
    for plain, graphed in zip(*grads, strict=True):
        torch.testing.assert_close(graphed, plain, rtol=1e-3, atol=1e-5)


def test_the_benchmark_prints_its_table() -> None:
    command = [sys.executable, "benchmarks/gpu/train_gpu.py", "--smoke", "--only", "mobile"]
    paths = ":".join(["benchmarks", *sys.path])
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": paths}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| `mobile` |") == 4
