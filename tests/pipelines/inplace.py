"""Experiments in the process of the test: a second a stage is saved by not loading torch anew."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from ppflow.cli import experiment, main
from ppflow.jobs import FailedJob, FinishedJob, Job
from ppflow.runner.worker import work


class Here:
    """An engine that does one job at a time, in this process."""

    def __init__(self) -> None:
        self.job: Job | None = None

    def has_room(self, job: Job) -> bool:
        return self.job is None

    def start(self, job: Job) -> None:
        self.job = job

    def finished(self) -> list[FinishedJob | FailedJob]:
        assert self.job is not None
        job, self.job = self.job, None
        return [work(job)]

    def close(self) -> None:
        pass


@contextmanager
def _here(_: object) -> Iterator[Here]:
    yield Here()


def ppflow(*arguments: object, folder: str | Path = ".") -> subprocess.CompletedProcess[str]:
    """The program with these arguments, as `subprocess.run` would tell of it."""
    words = ["ppflow", *map(str, arguments)]
    out, err, code = io.StringIO(), io.StringIO(), 0
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch, chdir(folder), redirect_stdout(out), redirect_stderr(err):
        patch.setattr(experiment, "_engine", _here)
        patch.setattr(sys, "argv", words)
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            signal.signal(signal.SIGTERM, handler)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def run(patch: pytest.MonkeyPatch, recipe: str, out: Path, **options: Any) -> int:
    """`ppflow run`; returns the exit status."""

    patch.setattr(experiment, "_engine", _here)
    return experiment.run_experiment(recipe, experiment.RunOptions(out, **options))
