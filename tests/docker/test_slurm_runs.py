"""The Slurm scripts with the real programs: an array whose parts are gathered, and training on two processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from slurm import array_task, start_job, write_program

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_an_array_makes_one_directory(stubs: Path, tmp_path: Path) -> None:
    out = tmp_path / "synth"
    for task in range(2):
        job = start_job(
            stubs,
            "generate.sbatch",
            "--classes",
            "0-3",
            **array_task(task, 2, out, PER_CLASS=3, SOURCE="letters"),
        )
        assert job.wait() == 0, job.communicate()
    gathered = start_job(stubs, "gather.sbatch", OUT=out)
    printed = gathered.communicate()[0]
    assert gathered.returncode == 0, printed
    assert "all as planned" in printed
    assert json.loads((out / "plan.json").read_text())["samples"] == 12


def test_training_with_two_processes(stubs: Path, tmp_path: Path) -> None:
    (stubs / "torchrun").unlink()
    write_program(stubs / "scontrol", "echo 127.0.0.1")
    words = [
        "--target",
        "digits",
        "--labels-per-class",
        "2",
        "--arch",
        "mobile",
        "--steps",
        "2",
        "--device",
        "cpu",
    ]
    job = start_job(
        stubs,
        "train.sbatch",
        *words,
        "--batch-size",
        "4",
        "--out",
        str(tmp_path / "run"),
        SLURM_NNODES=1,
        SLURM_JOB_NODELIST="x",
        PROCESSES=2,
        PORT=0,
    )
    printed = job.communicate()[0]
    assert job.returncode == 0, printed
    assert (tmp_path / "run/config.yaml").exists()
