"""Where jobs run: processes of this machine, or a Ray cluster. An engine knows nothing of the order of jobs."""

from __future__ import annotations

import os
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

from ppcore.errors import UserError
from ppflow.jobs import FailedJob, FinishedJob, Job
from ppflow.runner.worker import work
from ppgen.engines import load_ray

Outcome = FinishedJob | FailedJob
_CONTEXT = "spawn"  # of processes: torch does not survive a fork
_KILLED = "its process was killed (out of memory?); the same command runs it again"


class Engine(Protocol):
    """Runs jobs."""

    def has_room(self, job: Job) -> bool:
        """Whether the job may be started now."""
        ...

    def start(self, job: Job) -> None: ...

    def finished(self) -> list[Outcome]:
        """Wait for at least one of the started jobs; never raises for a job's failure."""
        ...

    def close(self) -> None:
        """Stop what still runs; it resumes another time."""
        ...


class LocalEngine:
    """Up to `slots` processes of this machine, kept from job to job; a process that is killed takes one job with it.

    A job takes as many slots as it has CPUs. GPUs are counted where the machine has some, so that two jobs of half a GPU share one.
    """

    def __init__(self, slots: int, gpus: float) -> None:
        self._slots, self._gpus = slots, gpus
        self._idle: list[ProcessPoolExecutor] = []
        self._running: dict[Future[Outcome], tuple[Job, ProcessPoolExecutor]] = {}

    def has_room(self, job: Job) -> bool:
        jobs = [running for running, _ in self._running.values()]
        cpus = sum(self._cpus(running) for running in jobs) + self._cpus(job)
        gpus = sum(running.resources.gpus for running in jobs) + job.resources.gpus
        return not jobs or (cpus <= self._slots and (not self._gpus or gpus <= self._gpus + 1e-9))

    def start(self, job: Job) -> None:
        pool = self._idle.pop() if self._idle else ProcessPoolExecutor(1, mp_context=get_context(_CONTEXT))
        self._running[pool.submit(work, job)] = (job, pool)

    def finished(self) -> list[Outcome]:
        outcomes = []
        for future in wait(self._running, return_when=FIRST_COMPLETED).done:
            job, pool = self._running.pop(future)
            try:
                outcomes.append(future.result())
                self._idle.append(pool)
            except BrokenProcessPool:
                outcomes.append(FailedJob(job, _KILLED))
        return outcomes

    def close(self) -> None:
        pools = [*self._idle, *(pool for _, pool in self._running.values())]
        processes = [process for pool in pools for process in (pool._processes or {}).values()]
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(timeout=10)

    def _cpus(self, job: Job) -> int:
        return min(max(1, round(job.resources.cpus)), self._slots)


class RayEngine:
    """A Ray cluster, which finds the machine with the CPUs, GPUs and memory that each job's stage asks for.

    All machines must see the directory of results and the working directory under the same paths.
    """

    def __init__(self, most: int | None = None) -> None:
        self._ray, self._most = load_ray(), most
        self._running: dict[Any, Job] = {}
        total = self._ray.cluster_resources()
        self._gpus = total.get("GPU", 0.0)

    def has_room(self, job: Job) -> bool:
        """Ray queues what it has no room for."""
        return self._most is None or len(self._running) < self._most

    def start(self, job: Job) -> None:
        need = job.resources
        if need.gpus > self._gpus:
            raise UserError(
                f"{job.label} asks for {need.gpus:g} GPUs and the cluster has {self._gpus:g}; add some, or set the stage's resources"
            )
        remote = self._ray.remote(_work_remotely).options(
            num_cpus=need.cpus, num_gpus=need.gpus, memory=int(need.memory_gb * 1e9) or None, max_retries=0
        )
        self._running[remote.remote(job, os.getcwd())] = job

    def finished(self) -> list[Outcome]:
        done, _ = self._ray.wait(list(self._running), num_returns=1)
        outcomes = []
        for reference in done:
            job = self._running.pop(reference)
            try:
                outcomes.append(self._ray.get(reference))
            except self._ray.exceptions.RayError as error:
                outcomes.append(FailedJob(job, f"{type(error).__name__}: {_KILLED}"))
        return outcomes

    def close(self) -> None:
        for reference in self._running:
            self._ray.cancel(reference, force=True)


def _work_remotely(job: Job, folder: str) -> Outcome:
    """In a Ray worker; relative paths mean what they mean to the driver."""
    if not Path(folder).is_dir():
        return FailedJob(
            job, f"the machine does not see {folder}; give the run a shared file system", refused=True
        )
    os.chdir(folder)
    return work(job)
