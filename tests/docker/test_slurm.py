"""The Slurm scripts, with a stub of srun: parts of an array, and what is requeued."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from files import DOCKER, fails, passes, tool
from slurm import SLURM, array_task, requeued, start_job, write_program

SCRIPTS = sorted(SLURM.iterdir())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_linted(script: Path, tmp_path: Path) -> None:
    passes("bash", "-n", script)
    passes(tool("shellcheck"), "--external-sources", "--source-path", DOCKER.parent, script)
    broken = tmp_path / script.name
    broken.write_text(script.read_text() + "\nrm $OUT\n")
    assert "SC2086" in fails(tool("shellcheck"), broken)


def test_every_task_makes_its_part_of_one_directory(stubs: Path, tmp_path: Path) -> None:
    write_program(stubs / "ppgen", 'echo "$@" >> "$CALLS/ppgen"')
    for task in range(3):
        words = array_task(task, 3, tmp_path, PER_CLASS=8)
        assert start_job(stubs, "generate.sbatch", "--format", "png", **words).wait() == 0
    calls = [line.split() for line in (tmp_path / "ppgen").read_text().splitlines()]
    value = lambda call, option: call[call.index(option) + 1]  # noqa: E731
    assert [value(call, "--part") for call in calls] == ["1/3", "2/3", "3/3"]
    assert {(value(call, "--per-class"), value(call, "--seed")) for call in calls} == {("8", "0")}
    assert len({value(call, "--out") for call in calls}) == 1
    assert all(call[-2:] == ["--format", "png"] for call in calls)


@pytest.mark.parametrize(
    ("status", "restarts", "again"),
    [(0, 0, False), (1, 0, True), (2, 0, False), (143, 3, True), (1, 20, False)],
)
def test_what_is_requeued(stubs: Path, tmp_path: Path, status: int, restarts: int, again: bool) -> None:
    write_program(stubs / "ppgen", f"exit {status}")
    job = start_job(stubs, "generate.sbatch", **array_task(1, 2, tmp_path, SLURM_RESTART_COUNT=restarts))
    assert job.wait() == (0 if again else status)
    assert requeued(stubs) == ("requeue 5_1" if again else "")


def test_the_warning_before_the_end_reaches_the_program(stubs: Path, tmp_path: Path) -> None:
    write_program(stubs / "ppgen", 'trap "exit 143" TERM; touch "$CALLS/began"; while :; do sleep 0.1; done')
    job = start_job(stubs, "generate.sbatch", **array_task(0, 2, tmp_path))
    for _ in range(600):
        if (tmp_path / "began").exists():
            break
        time.sleep(0.05)
    os.kill(job.pid, signal.SIGTERM)
    assert job.wait(60) == 0
    assert requeued(stubs) == "requeue 5_0"


def test_training_starts_one_torchrun_a_node(stubs: Path, tmp_path: Path) -> None:
    job = start_job(
        stubs, "train.sbatch", "--target", "digits", SLURM_NNODES=2, SLURM_JOB_NODELIST="node-[1-2]"
    )
    assert job.wait() == 0
    words = (tmp_path / "torchrun").read_text().split()
    assert words[-5:] == ["--no-python", "pptrain", "run", "--target", "digits"]
    assert words[words.index("--rdzv-endpoint") + 1] == "node-1:29500"
    assert words[words.index("--nnodes") + 1] == "2"
