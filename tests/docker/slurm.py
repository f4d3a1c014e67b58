"""Slurm's scripts started with stubs of its programs before the real ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from files import DOCKER

SLURM = DOCKER / "slurm"
STUBS = {
    "srun": 'exec "$@"',
    "scontrol": 'case $1 in show) echo node-1;; *) echo "$@" >> "$CALLS/scontrol";; esac',
    "torchrun": 'echo "$@" >> "$CALLS/torchrun"',
}


def write_program(path: Path, body: str) -> None:
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(0o755)


def start_job(stubs: Path, script: str, *words: str, **variables: object) -> subprocess.Popen[str]:
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


def array_task(task: int, tasks: int, out: Path, **more: object) -> dict[str, object]:
    places = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_MIN": 0, "SLURM_ARRAY_TASK_COUNT": tasks}
    return {**places, "SLURM_ARRAY_JOB_ID": 5, "OUT": out, **more}


def requeued(stubs: Path) -> str:
    calls = stubs.parent / "scontrol"
    return calls.read_text().strip() if calls.exists() else ""
