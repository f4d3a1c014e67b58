"""Experiments in the process of the test: a second a stage is saved by not loading torch anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ppflow.cli import experiment
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


def run(patch: pytest.MonkeyPatch, recipe: str, out: Path, **options: Any) -> int:
    """`ppflow run`; returns the exit status."""

    @contextmanager
    def here(_: object) -> Iterator[Here]:
        yield Here()

    patch.setattr(experiment, "_engine", here)
    return experiment.run_experiment(recipe, experiment.RunOptions(out, **options))
