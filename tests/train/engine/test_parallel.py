"""Two processes at the same global batch do what one process does, and resume exactly."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from together import count_exchanges, explode, in_two_processes, interrupt_and_resume, train_all
from toyshards import ShardWriter
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


@pytest.fixture
def split(target_folder: Path, write_shards: ShardWriter, tiny: Settings) -> Settings:
    """A UDA run whose batches are cut into two groups, without batch norm."""
    names = load_target(str(target_folder)).train.ids
    plan = {"target": {"name": target_folder.name, "labels_per_class": None, "label_seed": 0}}
    pseudo = write_shards("pseudo", [24, 24], kind="pseudo", plan=plan, target_ids=names)
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
    settings = {**split, "optim.steps": 50, "data.resident_mb": 0}
    one = train(load_config(overrides={**settings, "out": str(tmp_path / "one")}), quiet=True)
    save_config(load_config(overrides={**settings, "out": str(tmp_path / "two")}), tmp_path)
    launch(tmp_path / "config.yaml", 2)
    assert_equal(one.out, tmp_path / "two", 50)
    assert losses(one.out)[0] != losses(one.out)[-1]


OPTIONS: dict[str, dict[str, Any]] = {
    "flexmatch": {"threshold": 0.3},
    "fixmatch": {"threshold": 0.3},
    "pseudo-label": {"threshold": 0.3},
    "freematch": {"momentum": 0.5, "lambda_e": 0.5},
    "softmatch": {"momentum": 0.5},
    "condition": {"plus": 0.1, "labelled_soft": 0.5},
}


def test_every_method_does_in_two_processes_what_it_does_in_one(split: Settings, tmp_path: Path) -> None:
    target = load_target(split["data.target"])
    save_classifier(
        tmp_path / "teacher", build("small", 4, 1), ClassifierSpec("small", target.classes, 1, 16)
    )
    runs: dict[str, Settings] = {}
    for name, method in METHODS.items():
        settings = {**split, "method.name": name, "method.options": OPTIONS.get(name, {})}
        if not issubclass(method, SemiSupervised):
            settings["data.unlabeled"] = []
        elif name != "condition":
            settings["method.options"] = {"mu": 2.0, **settings["method.options"]}
        if method.needs_teacher is True:
            settings["model.teacher"] = str(tmp_path / "teacher")
        runs[name] = settings
    runs["tsa"] = {**split, "method.options": {"mu": 2.0, "tsa": "log"}, "optim.lr": 0.02}
    runs["accumulated"] = {**split, "optim.accumulate": 2, "optim.clip": 0.5, "optim.batch_size": 8}
    runs["idle head"] = {**split, "method.name": "condition", "method.options": {"lambda_u": 0.0}}
    for world in (1, 2):
        for name, settings in runs.items():
            settings["out"] = str(tmp_path / str(world) / name)
        if world == 1:
            for settings in runs.values():
                train(load_config(overrides=settings), quiet=True)
        else:
            in_two_processes(train_all, runs)
    for name in runs:
        assert_equal(tmp_path / "1" / name, tmp_path / "2" / name, 12)


def test_two_processes_resume_exactly_with_batch_norm(split: Settings, tmp_path: Path) -> None:
    settings = {**split, "model.arch": "small", "loop.checkpoint_every": 3, "method.name": "mean-teacher"}
    settings["method.options"] = {"mu": 2.0}
    whole, cut = ({**settings, "out": str(tmp_path / name)} for name in ("whole", "cut"))
    in_two_processes(interrupt_and_resume, whole, cut, tmp_path)
    ends = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    assert losses(tmp_path / "whole")[-1] == losses(tmp_path / "cut")[-1]


def test_a_loss_that_is_no_number_in_one_process_stops_both_and_spares_the_checkpoint(
    split: Settings, tmp_path: Path
) -> None:
    settings = {
        **split,
        "model.arch": "explodingnet:build",
        "method.name": "supervised",
        "data.unlabeled": [],
    }
    settings |= {
        "method.options": {},
        "loop.checkpoint_every": 1,
        "loop.log_every": 12,
        "out": str(tmp_path / "r"),
    }
    in_two_processes(explode, settings, tmp_path)
    for rank in range(2):
        assert "not a number at step 8" in (tmp_path / f"{rank}.txt").read_text()
    state = torch.load(tmp_path / "r" / "checkpoint" / "last.pt", weights_only=True)
    assert state["step"] == 8
    assert all(torch.isfinite(t).all() for t in state["model"].values())


def test_the_clock_of_the_first_process_needs_no_exchange(split: Settings, tmp_path: Path) -> None:
    in_two_processes(count_exchanges, {**split, "out": str(tmp_path / "r")}, tmp_path)
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)] == ["0", "0"]
