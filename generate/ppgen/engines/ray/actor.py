"""The inside of a worker on Ray: sampling, commits and progress, each in a thread of its own."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from ppcore.errors import UserError
from ppcore.shards import PLAN
from ppcore.storage import KeptStderr, Store
from ppgen.engines.failures import Failure
from ppgen.engines.gpus import limit_gpu_memory
from ppgen.shards import Job, ShardCommit, Worker


class WorkerActor:
    """A :class:`ppgen.shards.worker.Worker` that does one call at a time.

    Sampling has one thread of its own, always the same (CUDA graphs belong to the thread that captured them); commits and
    requests for progress have theirs.

    Args:
        job: what to make.
        gpu_share: of one GPU, 1 where the worker has whole ones.
    """

    def __init__(self, job: Job, gpu_share: float = 1.0) -> None:
        self._job, self._gpu_share = job, gpu_share
        self._commits: dict[int, Future[ShardCommit]] = {}
        self._sampled = 0

    def load(self) -> Failure | None:
        """Load the generator."""
        return _attempt(self._load)

    def sample(self, shard: int) -> int | Failure:
        """Sample a shard; its commit goes on. Returns the number of samples."""
        return _attempt(lambda: self._sample(shard))

    def commit(self, shard: int) -> ShardCommit | Failure:
        """Wait until a sampled shard is committed; returns its commit record."""
        return _attempt(lambda: self._commits.pop(shard).result())

    def progress(self) -> int:
        """Samples of the present shard so far."""
        return self._sampled

    def _load(self) -> None:
        store = Store(self._job.out)
        if store.is_local and not store.exists(PLAN):
            raise UserError(
                f"{platform.node()} does not see the directory {os.path.abspath(self._job.out)} of this run; give an --out that all "
                f"machines of the cluster share, a shared file system or a URL"
            )
        self._stderr = KeptStderr(store, self._job.worker_log())
        limit_gpu_memory(self._gpu_share)
        self._worker = Worker(self._job)

    def _sample(self, shard: int) -> int:
        self._sampled = 0

        def count(samples: int) -> None:
            self._sampled += samples

        self._commits[shard] = self._worker.begin(shard, count)
        return self._sampled


def _attempt(action: Callable[[], Any]) -> Any:
    """What the action returns, or why it failed: Ray would wrap an exception and lose its type."""
    try:
        return action()
    except Exception as error:
        return Failure.of(error)
