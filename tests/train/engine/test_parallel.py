"""Two processes at the same global batch do what one process does."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from toyshards import ShardWriter

from pptrain.config import load_config, save_config
from pptrain.engine import train

pytestmark = pytest.mark.slow


def losses(run: Path) -> list[float]:
    return [float(row["loss"]) for row in csv.DictReader((run / "metrics.csv").open())]


def launch(config: Path, world: int) -> None:
    """What torchrun does."""
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
    command = [
        sys.executable,
        "-c",
        "from pptrain.cli import main; main()",
        "run",
        "--config",
        str(config),
    ]
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


def test_two_processes_match_one(
    target_folder: Path, write_shards: ShardWriter, tiny: dict[str, Any], tmp_path: Path
) -> None:
    settings = {
        **tiny,
        "data.target": str(target_folder),
        "data.unlabeled": str(write_shards("pseudo", [9, 4, 11, 7], kind="pseudo")),
        "data.groups": 2,
        "data.resident_mb": 0,
        "method.name": "uda",
        "method.options": {"mu": 2.0, "threshold": 0.3},
        "model.arch": "plainnet:build",
        "optim.steps": 50,
        "loop.log_every": 1,
        "loop.amp": "no",
        "data.val_fraction": 0.25,
    }
    one = train(load_config(overrides={**settings, "out": str(tmp_path / "one")}), quiet=True)
    config = load_config(overrides={**settings, "out": str(tmp_path / "two")})
    save_config(config, tmp_path)
    launch(tmp_path / "config.yaml", 2)
    a, b = losses(one.out), losses(tmp_path / "two")
    assert len(a) == len(b) == 50
    assert max(abs(x - y) for x, y in zip(a, b, strict=True)) < 1e-4
    assert a[0] != a[-1]
