"""The trainer's step on a GPU: batches on a stream of their own, mixed precision, no wait for the device within a step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pptrain.config import load_config
from pptrain.data import RawBatch, prefetched
from pptrain.engine.choice import settle
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.state import make_state
from pptrain.engine.step import StepRunner, open_batches
from pptrain.engine.task import open_task
from pptrain.evaluation import LossAverages

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


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_step_does_not_wait_for_the_device(kind: str, cuda: torch.device) -> None:
    settings: dict[str, Any] = {"data.target": "digits", "data.labels_per_class": 4, "out": "none"}
    settings |= {"optim.steps": 20, "optim.batch_size": 8, "method.name": "supervised", **KINDS[kind]}
    if settings["method.name"] != "supervised":
        settings |= {"data.unlabeled": "target:digits", "method.options": {"mu": 2.0}}
    group = ProcessGroup(str(cuda))
    task = settle(open_task(load_config(overrides=settings), group), group)
    runner = StepRunner(task, make_state(task, group.device), group, LossAverages(group.device))
    with open_batches(task, 0, group.device) as batches:
        for _ in range(3):
            runner.run(batches)
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(3):
                runner.run(batches)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert runner.averages.first_bad_step() is None


def test_batches_come_through_the_stream_as_they_were(cuda: torch.device) -> None:
    batches = [
        (
            RawBatch(
                torch.full((64, 3, 32, 32), n, dtype=torch.uint8), torch.full((64,), n), torch.arange(64)
            ),
            None,
        )
        for n in range(20)
    ]
    seen = []
    for labeled, _ in prefetched(iter(batches), cuda):
        assert labeled.images.is_cuda
        torch.cuda._sleep(1_000_000)  # a step that is still running while the next batch comes
        seen.append((labeled.images.float().mean(), labeled.labels.float().mean()))
    assert [(float(a), float(b)) for a, b in seen] == [(n, n) for n in range(20)]


def test_the_benchmark_prints_its_table() -> None:
    command = [sys.executable, "benchmarks/gpu/train_gpu.py", "--smoke", "--only", "mobile"]
    paths = ":".join(["benchmarks", *sys.path])
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": paths}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| `mobile` |") == 2
