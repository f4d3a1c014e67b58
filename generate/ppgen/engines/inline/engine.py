"""The engine without a cluster: one worker in this process, or several processes of this machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import count
from typing import TypeVar

from ppgen.engines.base import OnEvent, Sampled, Summary
from ppgen.engines.failures import Failure, WorkerLocation
from ppgen.engines.gpus import visible_gpus
from ppgen.engines.inline.processes import ProcessPool
from ppgen.engines.leases import Leases
from ppgen.shards import Job, ShardCommit, Worker
from ppgen.sources import Generator

_T = TypeVar("_T")


class InlineEngine:
    """Runs shards here.

    Args:
        workers: 1 works in this process; more start as many processes, each with its own generator.
        generator: an already loaded one, used when workers is 1.
        gpus: what CUDA_VISIBLE_DEVICES may name; processes are spread over them. None finds them.
    """

    def __init__(
        self, workers: int = 1, generator: Generator | None = None, gpus: Sequence[str] | None = None
    ) -> None:
        self._count, self._generator, self._gpus = workers, generator, gpus
        self.workers = f"{workers} worker{'s' if workers > 1 else ''}"

    def connected(self) -> AbstractContextManager[object]:
        """Nothing is needed."""
        return nullcontext()

    def run(self, job: Job, shards: Sequence[int], on_event: OnEvent) -> Summary:
        """See :class:`ppgen.engines.base.Engine`."""
        leases = Leases(shards, job.out, on_event)
        workers = min(self._count, len(shards))
        if workers <= 1:
            generator, self._generator = self._generator, None
            _Here(job, leases, on_event).run(generator)
        if leases:  # several workers, or one that this process cannot be any longer
            gpus = visible_gpus(job.source.device) if self._gpus is None else self._gpus
            ProcessPool(job, leases, on_event, max(workers, 1), gpus).run()
        return leases.summary


class _Here:
    """A worker of this process: a shard is sampled while the one before is committed."""

    def __init__(self, job: Job, leases: Leases, on_event: OnEvent) -> None:
        self._job, self._leases, self._on_event = job, leases, on_event
        self._healthy = self._sound = True

    def run(self, generator: Generator | None) -> None:
        """Until every shard is done, or the process itself is no longer fit: a CUDA error stays with it. Raises UserError."""
        worker = Worker(self._job, generator)
        del generator
        for number in count():
            place = WorkerLocation(
                f"process {os.getpid()}, worker {number}", platform.node(), self._job.source.device
            )
            self._leases.starting(place)
            self._leases.ready(place)
            try:
                self._work(worker, place)
            finally:
                worker.close()
            self._leases.left(place)
            if self._healthy or not self._sound or not self._leases:
                return
            try:
                worker = Worker(self._job)
            except Exception as error:
                self._leases.not_started(None, Failure.of(error), more=True)
                return

    def _work(self, worker: Worker, place: WorkerLocation) -> None:
        """Until there is nothing to lease or a shard has failed."""
        self._healthy = True
        committing: tuple[int, Future[ShardCommit]] | None = None
        while True:
            shard = self._leases.lease(place) if self._healthy else None
            if shard is None and committing is None:
                return
            begun = None
            if shard is not None:
                future = self._attempt(place, shard, partial(worker.begin, shard, self._count))
                begun = None if future is None else (shard, future)
            if committing is not None:
                done, pending = committing
                commit = self._attempt(place, done, pending.result)
                if commit is not None:
                    self._leases.committed(place, done, commit)
            committing = begun

    def _attempt(self, place: WorkerLocation, shard: int, action: Callable[[], _T]) -> _T | None:
        try:
            return action()
        except Exception as error:
            failure = Failure.of(error)
            self._healthy, self._sound = False, self._sound and not failure.of_the_process
            self._leases.failed(place, shard, failure)
            self._leases.require_workers(more=False)
            return None

    def _count(self, samples: int) -> None:
        self._on_event(Sampled(samples))
