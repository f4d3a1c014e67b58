"""Two processes at the same global batch do what one process does, and resume exactly."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from together import count_exchanges, evaluate_slowly, explode, in_two_processes, train_and_resume
from toyshards import write, write_target
from trainruns import Settings, same_weights

from ppcore.classifiers import ClassifierSpec, build, save_classifier
from ppcore.targets import load_target
from pptrain.config import load_config, save_config
from pptrain.engine import train
from pptrain.methods import METHODS, SemiSupervised

pytestmark = pytest.mark.slow


def losses(run: Path) -> list[dict[str, float]]:
    """Every loss of every row of metrics.csv."""
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    return [{k: float(v) for k, v in row.items() if k.startswith(("loss", "kept"))} for row in rows]


def assert_equal(one: Path, two: Path, steps: int) -> None:
    a, b = losses(one), losses(two)
    assert len(a) == len(b) == steps
    for first, second in zip(a, b, strict=True):
        assert first == pytest.approx(second, abs=1e-4), one.name


@pytest.fixture(scope="module")
def split(tiny: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A UDA run whose batches are cut into two groups, without batch norm."""
    root = tmp_path_factory.mktemp("split")
    target_folder = write_target(root / "target")
    names = load_target(str(target_folder)).train.ids
    plan = {"target": {"name": target_folder.name, "labels_per_class": None, "label_seed": 0}}
    pseudo = write(root / "pseudo", [24, 24], kind="pseudo", plan=plan, target_ids=names)
    return {
        **tiny,
        "data.target": str(target_folder),
        "data.unlabeled": str(pseudo),
        "data.groups": 2,
        "data.val_fraction": 0.25,
        "method.name": "uda",
        "method.options": {"mu": 2.0, "threshold": 0.3},
        "model.arch": "plainnet:build",
        "loop.log_every": 1,
        "loop.amp": "no",
        "loop.device": "cpu",
    }


def launch(config: Path, world: int) -> None:
    """Start `world` processes of `pptrain run`, as torchrun does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    program = [sys.executable, "-c", "from pptrain.cli import main; main()"]
    command = [*program, "run", "--config", str(config), "--arch", "plainnet:build"]
    workers = [
        subprocess.Popen(
            command,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "PYTHONPATH": paths},
            stderr=subprocess.PIPE,
        )
        for rank in range(world)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=200)
        assert worker.returncode == 0, errors.decode()


def test_two_processes_match_one(split: Settings, tmp_path: Path) -> None:
    settings = {**split, "optim.steps": 20, "data.resident_mb": 0}
    one = train(load_config(overrides={**settings, "out": str(tmp_path / "one")}), quiet=True)
    save_config(load_config(overrides={**settings, "out": str(tmp_path / "two")}), tmp_path)
    launch(tmp_path / "config.yaml", 2)
    assert_equal(one.out, tmp_path / "two", 20)
    assert losses(one.out)[0] != losses(one.out)[-1]


OPTIONS: dict[str, dict[str, Any]] = {
    "flexmatch": {"threshold": 0.3},
    "fixmatch": {"threshold": 0.3},
    "pseudo-label": {"threshold": 0.3},
    "freematch": {"momentum": 0.5, "lambda_e": 0.5},
    "softmatch": {"momentum": 0.5},
    "condition": {"plus": 0.1, "labelled_soft": 0.5},
}


def of_method(name: str) -> Settings:
    """Settings of a run of the method `name`; a teacher is "TEACHER"."""
    method, options = METHODS[name], OPTIONS.get(name, {})
    chosen: Settings = {"method.name": name, "method.options": options}
    if not issubclass(method, SemiSupervised):
        chosen["data.unlabeled"] = []
    elif name != "condition":
        chosen["method.options"] = {"mu": 2.0, **options}
    return chosen | ({"model.teacher": "TEACHER"} if method.needs_teacher is True else {})


RUNS: dict[str, Settings] = {name: of_method(name) for name in METHODS}
RUNS["tsa"] = {"method.options": {"mu": 2.0, "tsa": "log"}, "optim.lr": 0.02}
RUNS["accumulated"] = {"optim.accumulate": 2, "optim.clip": 0.5}
RUNS["streamed"] = {"data.resident_mb": 0, "data.workers": 1}
RUNS["split batch norm"] = {"method.batch_norm": "split"}
RUNS["idle head"] = {"method.name": "condition", "method.options": {"lambda_u": 0.0}}
RUNS["source classifier"] = of_method("condition")
RUNS["source classifier"] |= {"method.options": {"target": "classifier"}, "model.teacher": "TEACHER"}


# With batch norm and resumed: what keeps a state of its own, and each way to form a step; the other methods are functions of a batch.
RESUMED = (
    *("supervised", "mean-teacher", "vat", "flexmatch", "freematch", "softmatch", "feature-consistency"),
    *("accumulated", "streamed", "split batch norm", "source classifier"),
)


@pytest.fixture(scope="module")
def trained(split: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every run of RUNS without batch norm: below `one` in one process and below `two` in two. Those of RESUMED with batch norm in
    two processes: below `whole`, and below `cut` killed and resumed. Then what three tests look at, in the same two processes."""
    root = tmp_path_factory.mktemp("trained")
    spec = ClassifierSpec("small", load_target(split["data.target"]).classes, 1, 16)
    save_classifier(root / "teacher", build("small", 4, 1), spec)

    def runs(folder: str, names: Iterable[str], **more: Any) -> list[Settings]:
        made = [{**split, **RUNS[name], **more, "out": str(root / folder / name)} for name in names]
        for settings in made:
            if "model.teacher" in settings:
                settings["model.teacher"] = str(root / "teacher")
        return made

    plain: Settings = {"optim.steps": 10, "loop.ema": 0.0}
    norm: Settings = {"optim.steps": 7, "model.arch": "small", "loop.checkpoint_every": 3}
    for settings in runs("one", RUNS, **plain):
        train(load_config(overrides=settings), quiet=True)
    whole = [*runs("two", RUNS, **plain), *runs("whole", RESUMED, **norm)]
    for name in ("exploded", "counted", "slow"):
        (root / name).mkdir()
    exploding = {
        **split,
        **RUNS["supervised"],
        "model.arch": "explodingnet:build",
        "loop.checkpoint_every": 1,
        "loop.log_every": 12,
        "out": str(root / "exploded/r"),
    }
    slow = {**split, "optim.steps": 2, "out": str(root / "slow/r")}
    in_two_processes(
        (train_and_resume, (whole, runs("cut", RESUMED, **norm))),
        (explode, (exploding, root / "exploded")),
        (count_exchanges, ({**split, "out": str(root / "counted/r")}, root / "counted")),
        (evaluate_slowly, (slow,)),
    )
    return root


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_come_to_the_losses_and_weights_of_one(name: str, trained: Path) -> None:
    one, two = trained / "one" / name, trained / "two" / name
    assert_equal(one, two, 10)
    first, second = (load_file(run / "model" / "model.safetensors") for run in (one, two))
    assert max((first[key] - second[key]).abs().max().item() for key in first) < 1e-4


@pytest.mark.parametrize("name", RESUMED)
def test_two_processes_with_batch_norm_resume_exactly(name: str, trained: Path) -> None:
    whole, cut = trained / "whole" / name, trained / "cut" / name
    assert same_weights(whole, cut)
    assert losses(whole)[-1] == losses(cut)[-1]


def test_a_loss_that_is_no_number_in_one_process_stops_both_and_spares_the_checkpoint(trained: Path) -> None:
    root = trained / "exploded"
    for rank in range(2):
        assert "not a number at step 8" in (root / f"{rank}.txt").read_text()
    state = torch.load(root / "r" / "checkpoint" / "last.pt", weights_only=True)
    assert state["step"] == 8
    assert all(torch.isfinite(t).all() for t in state["model"].values())


def test_the_clock_of_the_first_process_needs_no_exchange(trained: Path) -> None:
    assert [(trained / "counted" / f"{rank}.txt").read_text() for rank in range(2)] == ["0", "0"]


def test_the_others_wait_longer_than_the_timeout_for_the_evaluation(trained: Path) -> None:
    assert (trained / "slow" / "r" / "result.json").is_file()
