"""Runs the jobs of a graph, each after the jobs that it needs: in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any, Protocol

from ppcore.console import format_duration
from ppcore.errors import UserError
from ppflow.jobs import Graph, JobFailure, Outcomes, StageJob, StageResult
from ppflow.runner.stages import run_job
from ppgen.engines import load_ray

_KILLED = "its process was killed (out of memory?); the same command runs it again"
Outcome = StageResult | JobFailure
_START_METHOD = "spawn"  # torch does not survive a fork


class Executor(Protocol):
    """Runs jobs in other processes."""

    def has_room(self, job: StageJob, running: Sequence[StageJob]) -> bool:
        """Whether `job` may start while the jobs in `running` run."""
        ...

    def submit(self, job: StageJob) -> Future[Outcome]:
        """Start a job. The future raises if the process of the job was killed."""
        ...

    def close(self) -> None:
        """Stop the jobs that still run. The next run resumes them."""
        ...


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
                if isinstance(outcome, JobFailure):
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
    if isinstance(outcome, JobFailure):
        return f" FAILED: {outcome.reason}"
    return f": {outcome}, {outcome.seconds or 0:.0f} s; ETA {format_duration(eta)}"


def _outcome(future: Future[Outcome]) -> Outcome:
    error = future.exception()
    return future.result() if error is None else JobFailure(f"{_KILLED} ({type(error).__name__})")


class LocalExecutor:
    """Processes of this machine. A process that is killed takes only its own job with it.

    Args:
        slots: CPUs to use; a job takes as many as its stage asks for, a job that asks for more runs alone.
        gpus: GPUs of the machine. They are counted, so that two jobs of half a GPU share one; 0 does not count them.
    """

    def __init__(self, slots: int, gpus: float) -> None:
        self._slots, self._gpus = slots, gpus
        self._pools: dict[Future[Outcome], ProcessPoolExecutor] = {}

    def has_room(self, job: StageJob, running: Sequence[StageJob]) -> bool:
        if not running:
            return True
        jobs = [*running, job]
        cpus = sum(min(max(1, round(j.resources.cpus)), self._slots) for j in jobs)
        gpus = sum(j.resources.gpus for j in jobs)
        return cpus <= self._slots and (not self._gpus or gpus <= self._gpus + 1e-9)

    def submit(self, job: StageJob) -> Future[Outcome]:
        # Every pool has one process: a killed process breaks its whole pool. A process that is free is used again, because a new
        # one needs seconds to import torch.
        free = next((f for f in self._pools if f.done() and f.exception() is None), None)
        pool = (
            ProcessPoolExecutor(1, mp_context=get_context(_START_METHOD))
            if free is None
            else self._pools.pop(free)
        )
        future = pool.submit(run_job, job)
        self._pools[future] = pool
        return future

    def close(self) -> None:
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        for process in active_children():
            process.terminate()
        for process in active_children():
            process.join(timeout=10)


class RayExecutor:
    """A Ray cluster, which finds a machine with the CPUs, GPUs and memory that each stage asks for.

    All machines must see the directory of results and the working directory under the same paths.

    Args:
        most: jobs at the same time; None leaves it to Ray, which queues jobs until there is room.
    """

    def __init__(self, most: int | None = None) -> None:
        self._ray, self._most = load_ray(), most
        self._started: list[Any] = []
        self._gpus = self._ray.cluster_resources().get("GPU", 0.0)

    def has_room(self, job: StageJob, running: Sequence[StageJob]) -> bool:
        return self._most is None or len(running) < self._most

    def submit(self, job: StageJob) -> Future[Outcome]:
        need = job.resources
        if need.gpus > self._gpus:
            raise UserError(
                f"{job.label} asks for {need.gpus:g} GPUs and the cluster has {self._gpus:g}; add some, or set the stage's resources"
            )
        task = self._ray.remote(_run_on_ray).options(
            num_cpus=need.cpus, num_gpus=need.gpus, memory=int(need.memory_gb * 1e9) or None, max_retries=0
        )
        self._started.append(task.remote(job, os.getcwd()))
        future: Future[Outcome] = self._started[-1].future()
        return future

    def close(self) -> None:
        for reference in self._started:
            self._ray.cancel(reference, force=True)


def _run_on_ray(job: StageJob, folder: str) -> Outcome:
    """Run a job in a Ray worker, in the working directory of the driver, so that relative paths mean the same."""
    if not Path(folder).is_dir():
        reason = f"the machine does not see {folder}; give the run a shared file system"
        return JobFailure(reason, refused=True)
    os.chdir(folder)
    return run_job(job)
