"""The order of jobs, room for them, and killed processes, without anything heavy in the jobs."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from recipes import content

from ppflow.jobs import FailedJob, FinishedJob, Graph, Job, Outcomes, StageResult, expand
from ppflow.recipe import Resources, parse_recipe
from ppflow.runner import LocalEngine, Sizes, run_jobs
from ppflow.runner import engines as engines_module


class Instant:
    """An engine that does jobs when asked for finished ones, the last started first."""

    def __init__(self, room: int, outcome: Callable[[Job], FinishedJob | FailedJob]) -> None:
        self.room, self.outcome = room, outcome
        self.running: list[Job] = []
        self.order: list[str] = []
        self.closed = False

    def has_room(self, job: Job) -> bool:
        return len(self.running) < self.room

    def start(self, job: Job) -> None:
        self.running.append(job)
        self.order.append(job.label)

    def finished(self) -> list[FinishedJob | FailedJob]:
        return [self.outcome(self.running.pop())]

    def close(self) -> None:
        self.closed = True


def succeed(job: Job) -> FinishedJob:
    return FinishedJob(job, StageResult(steps=1))


def run(
    tmp_path: Path, outcome: Callable[[Job], FinishedJob | FailedJob] = succeed, room: int = 2
) -> tuple[Instant, Outcomes]:
    graph = expand(parse_recipe(content(), "r"), tmp_path)
    engine = Instant(room, outcome)
    return engine, run_jobs(graph, {}, engine, lambda outcomes, line: None)


def test_what_most_wait_for_comes_first_and_nothing_before_what_it_needs(tmp_path: Path) -> None:
    engine, outcomes = run(tmp_path, room=1)
    assert engine.order[0] == "letters"
    assert len(outcomes.done) == 9
    assert engine.closed
    assert engine.order.index("pretrain (seed 0)") < engine.order.index("both (seed 0)")
    assert engine.order.index("both (seed 0)") < engine.order.index("pretrain (seed 1)")  # seed by seed


def test_a_failure_leaves_out_what_needs_it_and_nothing_else(tmp_path: Path) -> None:
    def fail(job: Job) -> FinishedJob | FailedJob:
        return FailedJob(job, "no luck") if job.label == "similar (seed 1)" else succeed(job)

    _, outcomes = run(tmp_path, fail)
    assert [f.job.label for f in outcomes.failed.values()] == ["similar (seed 1)"]
    assert [job.label for job in outcomes.skipped.values()] == ["both (seed 1)"]
    assert len(outcomes.done) == 7


def test_room_is_counted_in_cpus_and_in_gpus_where_there_are_some(tmp_path: Path) -> None:
    job = next(iter(expand(parse_recipe(content(), "r"), tmp_path).jobs.values()))

    def fits(engine: LocalEngine, *resources: Resources) -> bool:
        *started, last = [replace(job, resources=r) for r in resources]
        engine._running = {n: (j, None) for n, j in enumerate(started)}  # type: ignore[misc, assignment]
        return engine.has_room(last)

    one, two = Resources(), Resources(cpus=2)
    assert fits(LocalEngine(2, 0), one, one)
    assert not fits(LocalEngine(2, 0), one, two)
    assert fits(LocalEngine(2, 0), Resources(cpus=64))  # more than there are: alone
    half = Resources(gpus=0.5)
    assert fits(LocalEngine(8, 1), half, half)
    assert not fits(LocalEngine(8, 1), half, half, half)
    assert fits(LocalEngine(8, 0), half, half, half)


def _die(job: Job) -> FinishedJob:
    if job.stage == "letters":
        os.kill(os.getpid(), signal.SIGKILL)
    return succeed(job)


@pytest.mark.slow
def test_a_killed_process_is_the_failure_of_its_own_job_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines_module, "work", _die)
    monkeypatch.setattr(engines_module, "_CONTEXT", "fork")  # so that the children have the patch
    graph = expand(parse_recipe(content(), "r"), tmp_path)
    outcomes = run_jobs(graph, {}, LocalEngine(2, 0), lambda outcomes, line: None)
    assert [f.job.stage for f in outcomes.failed.values()] == ["letters"]
    assert "killed" in next(iter(outcomes.failed.values())).reason
    assert len(outcomes.done) == 4
    assert len(outcomes.skipped) == 4


@pytest.mark.parametrize("target", ["cars", "cars=elsewhere"])
def test_official_sizes_are_known_before_the_images_are_here(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sizes = Sizes(Graph({}, {}, {}, {}))
    task = sizes.task(target)
    assert task is not None
    assert (task.classes, task.train, task.test) == (196, 8144, 8041)
    assert sizes.task("nobody-knows") is None
