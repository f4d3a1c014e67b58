"""The order of jobs, the CPUs and GPUs that they take, and killed processes; the jobs themselves do nothing."""

import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest
from recipes import content

from ppflow.jobs import JobFailure, Outcomes, StageJob, StageResult, expand
from ppflow.recipe import Resources, parse_recipe
from ppflow.runner import LocalExecutor, run_jobs, schedule

Outcome = StageResult | JobFailure


class Instant:
    """An executor whose jobs are finished as soon as they start."""

    def __init__(self, room: int, outcome: Callable[[StageJob], Outcome]) -> None:
        self.room, self.outcome = room, outcome
        self.order: list[str] = []
        self.closed = False

    def has_room(self, job: StageJob, running: Sequence[StageJob]) -> bool:
        return len(running) < self.room

    def submit(self, job: StageJob) -> Future[Outcome]:
        self.order.append(job.label)
        future: Future[Outcome] = Future()
        future.set_result(self.outcome(job))
        return future

    def close(self) -> None:
        self.closed = True


def succeed(job: StageJob) -> Outcome:
    return StageResult(steps=1)


def run(
    tmp_path: Path, outcome: Callable[[StageJob], Outcome] = succeed, room: int = 2
) -> tuple[Instant, Outcomes, dict[str, str]]:
    """The executor, the outcomes, and digest -> label of every job."""
    graph = expand(parse_recipe(content(), "r"), tmp_path)
    executor = Instant(room, outcome)
    outcomes = run_jobs(graph, {}, executor, lambda outcomes, line: None)
    return executor, outcomes, {digest: job.label for digest, job in graph.jobs.items()}


def test_what_most_wait_for_comes_first_and_nothing_before_what_it_needs(tmp_path: Path) -> None:
    executor, outcomes, _ = run(tmp_path, room=1)
    assert executor.order[0] == "letters"
    assert len(outcomes.done) == 9
    assert executor.closed
    assert executor.order.index("pretrain (seed 0)") < executor.order.index("both (seed 0)")
    assert executor.order.index("both (seed 0)") < executor.order.index("pretrain (seed 1)")  # seed by seed


def test_a_failure_leaves_out_what_needs_it_and_nothing_else(tmp_path: Path) -> None:
    def fail(job: StageJob) -> Outcome:
        return JobFailure("no luck") if job.label == "similar (seed 1)" else succeed(job)

    _, outcomes, labels = run(tmp_path, fail)
    assert [labels[digest] for digest in outcomes.failed] == ["similar (seed 1)"]
    assert [labels[digest] for digest in outcomes.skipped] == ["both (seed 1)"]
    assert len(outcomes.done) == 7


def test_room_is_counted_in_cpus_and_in_gpus_where_there_are_some(tmp_path: Path) -> None:
    job = next(iter(expand(parse_recipe(content(), "r"), tmp_path).jobs.values()))

    def fits(executor: LocalExecutor, *resources: Resources) -> bool:
        *running, last = [replace(job, resources=r) for r in resources]
        return executor.has_room(last, running)

    one, two = Resources(), Resources(cpus=2)
    assert fits(LocalExecutor(2, 0), one, one)
    assert not fits(LocalExecutor(2, 0), one, two)
    assert fits(LocalExecutor(2, 0), Resources(cpus=64))  # more than there are: alone
    half = Resources(gpus=0.5)
    assert fits(LocalExecutor(8, 1), half, half)
    assert not fits(LocalExecutor(8, 1), half, half, half)
    assert fits(LocalExecutor(8, 0), half, half, half)


def _die(job: StageJob) -> Outcome:
    if job.stage == "letters":
        os.kill(os.getpid(), signal.SIGKILL)
    return succeed(job)


@pytest.mark.slow
def test_a_killed_process_is_the_failure_of_its_own_job_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "run_job", _die)
    monkeypatch.setattr(schedule, "_START_METHOD", "fork")  # so that the children have the patch
    graph = expand(parse_recipe(content(), "r"), tmp_path)
    outcomes = run_jobs(graph, {}, LocalExecutor(2, 0), lambda outcomes, line: None)
    assert [graph.jobs[digest].stage for digest in outcomes.failed] == ["letters"]
    assert "killed" in next(iter(outcomes.failed.values())).reason
    assert len(outcomes.done) == 4
    assert len(outcomes.skipped) == 4
