"""Measuring how fast one worker is and how large its images are, by making a few batches in memory."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import Future
from dataclasses import replace

import numpy as np

from ppcore.shards import CONDITIONS, meta_path, tar_path
from ppcore.storage import Store
from ppgen.plan import Conditions, Rate, Segment
from ppgen.shards.commit import ShardCommit
from ppgen.shards.finalize import read_rows
from ppgen.shards.worker import Job, Worker
from ppgen.sources import Generator, choose_device

_SECONDS = 6.0  # of calibration, after one batch that warms up
_BATCHES = 20  # at most


def calibrate(job: Job, generator: Generator, conditions: Conditions | None) -> Rate:
    """Make a few batches of a plan in memory, as a worker does, and measure them.

    Args:
        conditions: of a pseudo plan whose directory does not exist yet.
    """
    plan = job.plan
    size, out = plan.batch_size, f"memory://{uuid.uuid4().hex}"
    shards = 1 + _BATCHES
    segment = Segment(0, shards * size, -(-shards * size // max(1, len(plan.classes))))
    small = replace(plan, segments=(segment,), samples_per_shard=size)
    store = Store(out)
    if conditions is not None:
        there = Store(job.out)
        known = there.exists(CONDITIONS)
        store.write_atomic(CONDITIONS, there.read(CONDITIONS) if known else conditions.to_parquet())
    worker = Worker(Job(small, out, job.source, job.threads), generator)
    try:
        worker.make(0)
        seconds, made = _time_batches(worker)
    finally:
        worker.close()
    tables = [read_rows(store, small, shard) for shard in range(1, 1 + made)]
    sizes = np.concatenate([table.column("bytes").to_numpy() for table in tables])
    rows = sum(store.size(meta_path(shard)) for shard in range(1, 1 + made))
    for shard in range(shards):  # fsspec's memory file system lives as long as the process
        store.delete(tar_path(shard))
    device = str(choose_device(job.source.device))
    return Rate(len(sizes) / seconds, float(sizes.mean()), rows / len(sizes), len(sizes), device)


def _time_batches(worker: Worker) -> tuple[float, int]:
    """(seconds, batches). Each batch is a shard, and sampling overlaps encoding as in a run."""
    start, made = time.monotonic(), 0
    pending: Future[ShardCommit] | None = None
    while made < _BATCHES and (made == 0 or time.monotonic() - start < _SECONDS):
        begun = worker.begin(1 + made)
        if pending is not None:
            pending.result()
        pending, made = begun, made + 1
    if pending is not None:
        pending.result()
    return time.monotonic() - start, made
