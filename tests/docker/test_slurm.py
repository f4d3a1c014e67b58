"""The Slurm scripts, with a stub of srun: shares of an array, merging, and what is requeued."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from files import DOCKER, fails, passes, tool

SLURM = DOCKER / "slurm"
SCRIPTS = sorted(SLURM.iterdir())
STUBS = {
    "srun": 'exec "$@"',
    "scontrol": 'case $1 in show) echo node-1;; *) echo "$@" >> "$CALLS/scontrol";; esac',
    "torchrun": 'echo "$@" >> "$CALLS/torchrun"',
}


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    """A folder of programs to stand before the real ones."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, body in STUBS.items():
        _write(folder / name, body)
    return folder


def _write(path: Path, body: str) -> None:
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(0o755)


def _job(stubs: Path, script: str, *words: str, **variables: object) -> subprocess.Popen[str]:
    path = f"{stubs}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    job = {"SLURM_SUBMIT_DIR": SLURM, "SLURM_JOB_ID": 7, "CALLS": stubs.parent, "PATH": path, **variables}
    environment = {**os.environ, **{name: str(value) for name, value in job.items()}}
    return subprocess.Popen(
        ["bash", str(SLURM / script), *words],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _array(task: int, tasks: int, out: Path, **more: object) -> dict[str, object]:
    places = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_MIN": 0, "SLURM_ARRAY_TASK_COUNT": tasks}
    return {**places, "SLURM_ARRAY_JOB_ID": 5, "OUT": out, **more}


def _requeued(stubs: Path) -> str:
    calls = stubs.parent / "scontrol"
    return calls.read_text().strip() if calls.exists() else ""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_linted(script: Path, tmp_path: Path) -> None:
    passes("bash", "-n", script)
    passes(tool("shellcheck"), "--external-sources", "--source-path", DOCKER.parent, script)
    (tmp_path / script.name).write_text(script.read_text() + "\nrm $OUT\n[ 1 = 1\n")
    fails("bash", "-n", tmp_path / script.name) if False else fails(
        tool("shellcheck"), tmp_path / script.name
    )


def test_shares_add_up_and_seeds_differ(stubs: Path, tmp_path: Path) -> None:
    _write(stubs / "ppgen", 'echo "$@" >> "$CALLS/ppgen"')
    for task in range(3):
        assert (
            _job(stubs, "generate.sbatch", "--format", "png", **_array(task, 3, tmp_path, PER_CLASS=8)).wait()
            == 0
        )
    calls = [line.split() for line in (tmp_path / "ppgen").read_text().splitlines()]
    value = lambda call, option: call[call.index(option) + 1]  # noqa: E731
    assert [int(value(call, "--per-class")) for call in calls] == [3, 3, 2]
    assert [value(call, "--seed") for call in calls] == ["0", "1", "2"]
    assert len({value(call, "--out") for call in calls}) == 3
    assert all(call[-2:] == ["--format", "png"] for call in calls)
    assert _job(stubs, "generate.sbatch", **_array(8, 9, tmp_path, PER_CLASS=8)).wait() == 2


@pytest.mark.parametrize(
    ("status", "restarts", "again"),
    [(0, 0, False), (1, 0, True), (2, 0, False), (143, 3, True), (1, 20, False)],
)
def test_what_is_requeued(stubs: Path, tmp_path: Path, status: int, restarts: int, again: bool) -> None:
    _write(stubs / "ppgen", f"exit {status}")
    job = _job(stubs, "generate.sbatch", **_array(1, 2, tmp_path, SLURM_RESTART_COUNT=restarts))
    assert job.wait() == (0 if again else status)
    assert _requeued(stubs) == ("requeue 5_1" if again else "")


def test_the_warning_before_the_end_reaches_the_program(stubs: Path, tmp_path: Path) -> None:
    _write(stubs / "ppgen", 'trap "exit 143" TERM; touch "$CALLS/began"; while :; do sleep 0.1; done')
    job = _job(stubs, "generate.sbatch", **_array(0, 2, tmp_path))
    for _ in range(600):
        if (tmp_path / "began").exists():
            break
        time.sleep(0.05)
    os.kill(job.pid, signal.SIGTERM)
    assert job.wait(60) == 0
    assert _requeued(stubs) == "requeue 5_0"


def test_training_starts_one_torchrun_a_node(stubs: Path, tmp_path: Path) -> None:
    job = _job(stubs, "train.sbatch", "--target", "digits", SLURM_NNODES=2, SLURM_JOB_NODELIST="node-[1-2]")
    assert job.wait() == 0
    words = (tmp_path / "torchrun").read_text().split()
    assert words[-5:] == ["--no-python", "pptrain", "run", "--target", "digits"]
    assert words[words.index("--rdzv-endpoint") + 1] == "node-1:29500"
    assert words[words.index("--nnodes") + 1] == "2"


@pytest.mark.slow
def test_an_array_makes_one_directory(stubs: Path, tmp_path: Path) -> None:
    out = tmp_path / "synth"
    for task in range(2):
        job = _job(
            stubs,
            "generate.sbatch",
            "--classes",
            "0-3",
            **_array(task, 2, out, PER_CLASS=3, SOURCE="letters"),
        )
        assert job.wait() == 0, job.communicate()
    merged = _job(stubs, "merge.sbatch", OUT=out)
    printed = merged.communicate()[0]
    assert merged.returncode == 0, printed
    assert "all as planned" in printed
    plan = json.loads((out / "merged/plan.json").read_text())
    assert plan["samples"] == 12


@pytest.mark.slow
def test_training_with_two_processes(stubs: Path, tmp_path: Path) -> None:
    (stubs / "torchrun").unlink()
    _write(stubs / "scontrol", "echo 127.0.0.1")
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
    job = _job(
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
