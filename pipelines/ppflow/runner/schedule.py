"""Runs the jobs of a graph in an order in which each comes after the jobs that it needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait

from ppcore.console import format_duration
from ppflow.jobs import Failure, Graph, Outcomes, StageResult
from ppflow.runner.executors import Executor, Outcome

_KILLED = "its process was killed (out of memory?); the same command runs it again"


def run_jobs(
    graph: Graph,
    done: Mapping[str, StageResult],
    executor: Executor,
    on_finished: Callable[[Outcomes, str], None],
) -> Outcomes:
    """Run every job that is not done. A failed job stops only the jobs that need it.

    Each job writes its output to `<folder>.log`. Ctrl-C stops the running jobs; the next run resumes them.

    Args:
        done: digest -> result of the jobs that are finished already.
        on_finished: called after every job with all outcomes so far and a line about that job.
    """
    outcomes = Outcomes(dict(done))
    dependents = graph.dependents()

    def priority(digest: str) -> tuple[int, int]:
        """Jobs of all seeds first, then seed by seed, so that every row of the table has a figure early."""
        seed = graph.jobs[digest].seed
        return -1 if seed is None else seed, -len(dependents[digest])

    waiting = sorted((digest for digest in graph.jobs if digest not in done), key=priority)
    running: dict[Future[Outcome], str] = {}
    total, start = len(waiting), time.monotonic()
    try:
        while waiting or running:
            for digest in list(waiting):
                job = graph.jobs[digest]
                ready = all(need in outcomes.done for need in job.needs)
                if ready and executor.has_room(job, [graph.jobs[other] for other in running.values()]):
                    waiting.remove(digest)
                    running[executor.submit(job)] = digest
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                digest = running.pop(future)
                outcome = _outcome(future)
                if isinstance(outcome, Failure):
                    outcomes.failed[digest] = outcome
                    outcomes.skipped.extend(other for other in waiting if other in dependents[digest])
                    waiting = [other for other in waiting if other not in dependents[digest]]
                else:
                    outcomes.done[digest] = outcome
                left = len(waiting) + len(running)
                eta = (time.monotonic() - start) / (total - left) * left
                line = f"[{total - left}/{total}] {graph.jobs[digest].label}{_ending(outcome, eta)}"
                on_finished(outcomes, line)
    finally:
        executor.close()
    return outcomes


def _ending(outcome: Outcome, eta: float) -> str:
    if isinstance(outcome, Failure):
        return f" FAILED: {outcome.reason}"
    return f": {outcome}, {outcome.seconds or 0:.0f} s; ETA {format_duration(eta)}"


def _outcome(future: Future[Outcome]) -> Outcome:
    error = future.exception()
    return future.result() if error is None else Failure(f"{_KILLED} ({type(error).__name__})")
