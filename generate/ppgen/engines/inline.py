"""The engine without a cluster: one worker in this process, or several processes of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext

from ppgen.engines.base import OnEvent, Sampled, Summary
from ppgen.engines.leases import Failure, ShardQueue
from ppgen.engines.processes import ProcessPool
from ppgen.shards import Job, ShardCommit, Worker
from ppgen.sources import Generator


class InlineEngine:
    """Runs shards here.

    Args:
        workers: 1 works in this process; more start as many processes, each with its own generator.
        generator: an already loaded one, used when workers is 1.
    """

    def __init__(self, workers: int = 1, generator: Generator | None = None) -> None:
        self._count, self._generator = workers, generator
        self.workers = f"{workers} worker{'s' if workers > 1 else ''}"

    def connected(self) -> AbstractContextManager[object]:
        """Nothing is needed."""
        return nullcontext()

    def run(self, job: Job, shards: Sequence[int], on_event: OnEvent) -> Summary:
        """See :class:`ppgen.engines.base.Engine`."""
        queue = ShardQueue(shards, job.out, on_event)
        count = min(self._count, len(shards))
        if count <= 1:
            _run_here(job, queue, on_event, self._generator)
        else:
            ProcessPool(job, queue, on_event, count).run()
        return queue.summary


def _run_here(job: Job, queue: ShardQueue, on_event: OnEvent, generator: Generator | None) -> None:
    """A shard is sampled while the one before is committed."""
    worker = Worker(job, generator)
    committing: tuple[int, Future[ShardCommit]] | None = None
    try:
        while queue or committing is not None:
            begun = None
            if queue:
                shard = queue.lease()
                try:
                    begun = (shard, worker.begin(shard, lambda n: on_event(Sampled(n))))
                except Exception as error:
                    queue.failed(shard, Failure.of(error))
            if committing is not None:
                _settle(*committing, queue)
            committing = begun
    finally:
        worker.close()


def _settle(shard: int, future: Future[ShardCommit], queue: ShardQueue) -> None:
    try:
        commit = future.result()
    except Exception as error:
        queue.failed(shard, Failure.of(error))
    else:
        queue.committed(shard, commit)
