"""One job in a process of its own making: output to a log file, failures as values."""

from __future__ import annotations

import os
import platform
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from ppcore.errors import UserError
from ppflow.jobs import FailedJob, FinishedJob, Job, cached_result, write_record
from ppflow.runner.stages import run_stage


def work(job: Job) -> FinishedJob | FailedJob:
    """Do a job; what it prints goes to `<folder>.log`, a traceback too."""
    torch.set_num_threads(1 if job.resources.cpus <= 1 else int(job.resources.cpus))
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    found = cached_result(job)
    if found is not None:
        return FinishedJob(job, found, fresh=False)
    start = time.monotonic()
    log = job.folder.with_name(job.folder.name + ".log")
    with _output_to(log):
        try:
            result = run_stage(job)
        except UserError as error:
            return FailedJob(job, str(error), refused=True)
        except Exception as error:
            traceback.print_exc()
            return FailedJob(job, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    seconds = max(time.monotonic() - start, result.seconds or 0.0)
    write_record(job, seconds, platform.node())
    return FinishedJob(job, replace(result, seconds=seconds))


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
