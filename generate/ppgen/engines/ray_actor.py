"""The Ray engine's actor: a worker on some machine of the cluster."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from ppcore.errors import UserError
from ppcore.shards import PLAN
from ppcore.storage import Store
from ppgen.engines.leases import Failure
from ppgen.shards import Job, ShardCommit, Worker

GROUPS = {"commit": 1, "progress": 1}  # threads beside the one that samples, for the methods of these names


class WorkerActor:
    """A :class:`ppgen.shards.worker.Worker` that does one call at a time.

    Sampling has one thread of its own, always the same (CUDA graphs belong to the thread that captured them); commits and
    requests for progress have theirs.

    Args:
        job: what to make.
        folder: working directory of the driver, so that relative paths mean the same here.
        path: import path of the driver, for the user's own modules.
    """

    def __init__(self, job: Job, folder: str, path: Sequence[str]) -> None:
        if os.path.isdir(folder):
            os.chdir(folder)
        sys.path.extend(entry for entry in path if entry not in sys.path)
        self._job = job
        self._commits: dict[int, Future[ShardCommit]] = {}
        self._sampled = 0

    def load(self) -> str | Failure:
        """Load the generator; returns who this is."""
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

    def _load(self) -> str:
        here = f"{platform.node()} (process {os.getpid()})"
        store = Store(self._job.out)
        if store.is_local and not store.exists(PLAN):
            raise UserError(
                f"{here} does not see the directory {os.path.abspath(self._job.out)} of this run; give an --out that all machines "
                f"of the cluster share, a shared file system or a URL"
            )
        self._worker = Worker(self._job)
        return here

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
