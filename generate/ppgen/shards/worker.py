"""A worker makes shards: sample, encode, pack, write, and last the commit record."""

from __future__ import annotations

import json
import os
import platform
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ppcore.errors import UserError
from ppcore.platforms import this_platform
from ppcore.shards import CONDITIONS, LOGS, meta_path, tar_path
from ppcore.storage import Store
from ppgen.generators import open_generator
from ppgen.plan import Conditions, Plan, Rate, Segment, canonical_json
from ppgen.shards.commit import Duration, ShardCommit, library_versions, stored_file, write_commit
from ppgen.shards.finalize import read_rows
from ppgen.shards.pack import Samples, pack
from ppgen.shards.sampler import OnBatch, Sampler
from ppgen.sources import (
    Generator,
    SourceSpec,
    choose_device,
    describe_classifier,
    describe_source,
    make_deterministic,
    open_classifier,
)

SMALL_SIDE = 64  # pixels a side; for images up to this size a process is fastest with one CPU thread


@dataclass(frozen=True)
class Job:
    """What workers on any machine need to make the shards of a plan. It can be pickled and contains no tensors.

    Attributes:
        plan: the frozen plan.
        out: root of the shard directory, local path or URL.
        source: how to load the generator and, for scored plans, the classifier.
        threads: CPU threads of torch in each worker.
        run: name of the run, part of the names of its log files; if it is empty, no logs are kept.
        part: (I, N): make only part I of N of the shards, see :meth:`own`.
    """

    plan: Plan
    out: str
    source: SourceSpec
    threads: int = 1
    run: str = ""
    part: tuple[int, int] | None = None

    def own(self, shards: Sequence[int]) -> list[int]:
        """The shards of this job's part: those whose number is I - 1 modulo N."""
        if self.part is None:
            return list(shards)
        number, parts = self.part
        return [shard for shard in shards if shard % parts == number - 1]

    def worker_log(self) -> str:
        """File for standard error of this process; empty if no logs are kept."""
        return f"{LOGS}/worker-{self.run}-{platform.node()}-{os.getpid()}.log" if self.run else ""


class Worker:
    """Makes shards of one job with one generator. It raises every error; the engine decides about retries.

    Args:
        job: what to make.
        generator: an already loaded one; None loads it.

    Attributes:
        platform: hardware and settings that decide the last bits of its images.

    Raises:
        UserError: the source cannot be opened on this machine, or is not the one of the plan.
    """

    def __init__(self, job: Job, generator: Generator | None = None) -> None:
        if choose_device(job.source.device).type == "cpu":
            torch.set_num_threads(job.threads)
        if job.plan.source.get("reproducible"):
            make_deterministic()
        # The fastest convolution may differ from run to run, and with it the last bits of an image.
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        self.plan, self.job, self.store = job.plan, job, Store(job.out)
        generator = open_generator(job.source) if generator is None else generator
        _require_planned(generator, job)
        mode = getattr(generator, "compile_mode", "none")
        self.platform = this_platform(choose_device(job.source.device), mode)
        conditions = classifier = None
        if job.plan.kind == "pseudo":
            conditions = Conditions.from_parquet(self.store.read(CONDITIONS), job.plan)
        if job.plan.score:
            classifier = open_classifier(job.source, job.plan.num_classes, job.plan.source["class_names"])
            planned = {name: value for name, value in job.plan.score.items() if name != "dtype"}
            _require_same("classifier", describe_classifier(classifier), planned)
        self._sampler = Sampler(job.plan, generator, conditions, classifier)
        self._finisher = ThreadPoolExecutor(1, "commit")

    def close(self) -> None:
        """Wait for the shards that were begun and stop the threads."""
        self._finisher.shutdown(wait=True)
        self._sampler.close()

    def make(self, shard: int, on_batch: OnBatch | None = None) -> ShardCommit:
        """Make and commit one shard; returns its commit record."""
        return self.begin(shard, on_batch).result()

    def begin(self, shard: int, on_batch: OnBatch | None = None) -> Future[ShardCommit]:
        """Sample a shard now and return while it is still being encoded, written and committed.

        Sampling a shard overlaps the commit of the one before; commits follow each other in a thread of their own. A caller
        that holds at most two of these futures bounds the memory: the encoded images of a shard wait in each.

        Args:
            shard: number of the shard.
            on_batch: called with the number of samples after every batch.

        Raises:
            RuntimeError: the generator broke its contract.
        """
        start = time.monotonic()
        collect = self._sampler.sample(shard, on_batch)
        sampling = time.monotonic() - start
        return self._finisher.submit(lambda: self._commit(shard, collect(), start, sampling))

    def regenerate(self, shard: int, row: int, whole: bool) -> tuple[list[bytes], slice]:
        """See :meth:`ppgen.shards.sampler.Sampler.resample`."""
        return self._sampler.resample(shard, row, whole)

    def _commit(self, shard: int, samples: Samples, start: float, sampling: float) -> ShardCommit:
        """Pack and write a shard. If this fails there is no commit record, and the next attempt replaces the files.

        Args:
            start: of the shard, by the monotonic clock.
            sampling: seconds.
        """
        tar, parquet = pack(self.plan, shard, samples)
        self.store.write_atomic(tar_path(shard), tar)
        self.store.write_atomic(meta_path(shard), parquet)
        commit = ShardCommit(
            shard=shard,
            fingerprint=self.plan.shard_fingerprint(shard),
            samples=len(samples.rows),
            first_index=int(samples.rows.index[0]),
            bad=samples.bad or None,
            tar=stored_file(tar),
            parquet=stored_file(parquet),
            seconds=Duration(round(sampling, 3), round(time.monotonic() - start, 3)),
            host=platform.node(),
            device=str(choose_device(self.job.source.device)),
            threads=torch.get_num_threads(),
            versions=library_versions(),
            platform=self.platform,
        )
        write_commit(self.store, commit)
        return commit


def _require_planned(generator: Generator, job: Job) -> None:
    """Raise UserError if the source is not the one of the plan."""
    described = describe_source(generator, job.source)
    if job.plan.source.get("reproducible"):
        described["reproducible"] = True  # set by the worker, so the generator does not describe it
    _require_same("generator", described, job.plan.source)


def _require_same(what: str, description: dict[str, Any], planned: dict[str, Any]) -> None:
    here = json.loads(canonical_json(description))
    differing = sorted(key for key in here.keys() | planned.keys() if here.get(key) != planned.get(key))
    if differing:
        raise UserError(
            f"the {what} loaded on {platform.node()} is not the one of the plan (they differ in {', '.join(differing)}); "
            f"give every machine the same weights and settings"
        )


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
