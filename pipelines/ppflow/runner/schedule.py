"""Work off a graph of jobs: seed by seed, those that most others wait for first; a failure stops only what depends on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from ppcore.console import format_duration
from ppflow.jobs import FailedJob, FinishedJob, Graph, Outcomes
from ppflow.runner.engines import Engine, Outcome

Watch = Callable[[Outcomes, str], None]
"""Told after every job: what there is by now, and a line about that job."""


def run_jobs(graph: Graph, done: Mapping[str, FinishedJob], engine: Engine, watch: Watch) -> Outcomes:
    """Run every job that is not done once those it needs are.

    Each job writes what it prints to `<folder>.log`. Ctrl-C stops the running jobs; they resume.
    """
    outcomes = Outcomes(dict(done))
    dependents = graph.dependents()

    def urgency(digest: str) -> tuple[int, int]:
        """What all seeds share, then a seed after the other: whoever watches has a figure of every row early."""
        seed = graph.jobs[digest].seed
        return -1 if seed is None else seed, -len(dependents[digest])

    waiting = sorted((digest for digest in graph.jobs if digest not in done), key=urgency)
    total, running, start = len(waiting), 0, time.monotonic()
    try:
        while waiting or running:
            for digest in list(waiting):
                job = graph.jobs[digest]
                if all(need in outcomes.done for need in job.needs) and engine.has_room(job):
                    waiting.remove(digest)
                    engine.start(job)
                    running += 1
            assert running, "jobs wait for each other"
            for outcome in engine.finished():
                running -= 1
                if isinstance(outcome, FailedJob):
                    _fail(outcome, dependents, waiting, graph, outcomes)
                else:
                    outcomes.done[outcome.job.digest] = outcome
                left = len(waiting) + running
                told = _told(outcome, time.monotonic() - start, total, left)
                watch(outcomes, f"[{total - left}/{total}] {told}")
    finally:
        engine.close()
    return outcomes


def _fail(
    failed: FailedJob,
    dependents: Mapping[str, set[str]],
    waiting: list[str],
    graph: Graph,
    outcomes: Outcomes,
) -> None:
    outcomes.failed[failed.job.digest] = failed
    for digest in dependents[failed.job.digest]:
        if digest in waiting:
            waiting.remove(digest)
            outcomes.skipped[digest] = graph.jobs[digest]


def _told(outcome: Outcome, elapsed: float, total: int, left: int) -> str:
    if isinstance(outcome, FailedJob):
        return f"{outcome.job.label} FAILED: {outcome.reason}"
    eta = format_duration(elapsed / max(1, total - left) * left)
    return f"{outcome.job.label}: {outcome.result}, {outcome.result.seconds or 0:.0f} s; ETA {eta}"
