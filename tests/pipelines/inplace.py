"""Runs experiments in the process of the test. This saves a second a stage, because torch is not imported again."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from ppflow.cli import experiment, main
from ppflow.jobs import JobFailure, StageJob, StageResult
from ppflow.runner.stages import run_job


class Here:
    """An executor that runs one job at a time, in this process."""

    def has_room(self, job: StageJob, running: Sequence[StageJob]) -> bool:
        return not running

    def submit(self, job: StageJob) -> Future[StageResult | JobFailure]:
        future: Future[StageResult | JobFailure] = Future()
        future.set_result(run_job(job))
        return future

    def close(self) -> None:
        pass


@contextmanager
def _here(_: object) -> Iterator[Here]:
    yield Here()


def ppflow(*arguments: object, folder: str | Path = ".") -> subprocess.CompletedProcess[str]:
    """Run the program with these arguments in this process; returns what `subprocess.run` would."""
    words = ["ppflow", *map(str, arguments)]
    out, err, code = io.StringIO(), io.StringIO(), 0
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch, chdir(folder), redirect_stdout(out), redirect_stderr(err):
        patch.setattr(experiment, "_executor", _here)
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

    patch.setattr(experiment, "_executor", _here)
    return experiment.run_experiment(recipe, experiment.RunOptions(out, **options))
