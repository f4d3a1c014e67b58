"""Run a recipe's jobs side by side, one process a core; finished jobs are found again and not repeated."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch

from ppcore.console import format_duration
from ppcore.errors import UserError
from ppflow.runner.graph import Job, JobKey, dependents
from ppflow.runner.stages import StageResult, cached_result, run_stage

Log = Callable[[str], None]


@dataclass(frozen=True)
class FinishedJob:
    """What a job reported, and the seconds it took in this run (0 when it was found done)."""

    job: Job
    result: StageResult
    seconds: float


def run_jobs(jobs: Mapping[JobKey, Job], *, workers: int, log: Log) -> dict[JobKey, FinishedJob]:
    """Run every job once those it needs are done; those that most others wait for first.

    Each job writes what it prints to `<folder>.log`.

    Raises:
        UserError: a job was refused; the message is the job's own.
        RuntimeError: a job's process died.
    """
    weight = dependents(jobs)
    waiting = sorted(jobs, key=lambda key: -weight[key])
    done: dict[JobKey, FinishedJob] = {}
    running: dict[Future[FinishedJob], JobKey] = {}
    start = time.monotonic()
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    )  # one thread a process: small networks on a busy machine are many times slower with two
    try:
        while len(done) < len(jobs):
            ready = [key for key in waiting if all(need in done for need in jobs[key].needs)]
            for key in ready[: workers - len(running)]:
                waiting.remove(key)
                running[pool.submit(_work, jobs[key])] = key
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                done[running.pop(future)] = future.result()
                log(_progress(future.result(), len(done), len(jobs), time.monotonic() - start))
    except BrokenProcessPool as error:
        raise RuntimeError("a job's process was killed; run the same command again to resume") from error
    finally:
        _stop(pool)
    return done


def _progress(finished: FinishedJob, done: int, total: int, elapsed: float) -> str:
    left = format_duration(elapsed / done * (total - done))
    found = "" if finished.seconds else " (found done)"
    return f"[{done}/{total}] {finished.job.label}: {finished.result}, {finished.seconds:.0f} s{found}; ETA {left}"


def _stop(pool: ProcessPoolExecutor) -> None:
    """Do not wait for jobs that are still running after a failure or Ctrl-C: they resume."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(timeout=10)


def _work(job: Job) -> FinishedJob:
    """In a worker process: run one job, its output sent to its log file."""
    cached = cached_result(job)
    if cached is not None:
        return FinishedJob(job, cached, 0.0)
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with _output_to(job.folder.with_name(job.folder.name + ".log")):
        try:
            result = run_stage(job)
        except UserError as error:
            raise UserError(f"{job.label}: {error}") from error
    return FinishedJob(job, result, max(time.monotonic() - start, 1e-3))


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send file descriptors 1 and 2 to a file for a while (subprocesses and C libraries included)."""
    saved = [os.dup(1), os.dup(2)]
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, stream)
            os.close(copy)
