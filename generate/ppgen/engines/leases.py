"""The shards still to do: leased to workers, retried a bounded number of times, given up; every engine schedules from one queue."""

from __future__ import annotations

import errno
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from traceback import format_exception

from ppcore.errors import UserError
from ppcore.storage import UnreachableError
from ppgen.engines.base import Committed, Failed, OnEvent, Retried, Summary
from ppgen.shards import ShardCommit

MAX_ATTEMPTS = 3
MAX_FAILED_SHARDS = 10  # a fault that hits every shard must not cost the whole plan three times
_PERMANENT = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass(frozen=True)
class Failure:
    """What went wrong in a worker; passes from process to process.

    Attributes:
        error: the exception, reduced to what decides whether another attempt may mend it.
        traceback: of the original, as text.
    """

    error: BaseException
    traceback: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """The failure of an attempt that raised `error`."""
        return cls(_picklable(error), "".join(format_exception(error)).strip())

    def raise_if_permanent(self, out: str) -> None:
        """Raise UserError for what another attempt cannot mend: the user's mistake, a full or read-only disk."""
        if isinstance(self.error, UserError) and not isinstance(self.error, UnreachableError):
            raise self.error
        if isinstance(self.error, OSError) and self.error.errno in _PERMANENT:
            raise UserError(
                f"cannot write to {out} ({self.error.strerror}); make it writable or free some space, then run the same command "
                f"again to resume"
            ) from self.error


def _picklable(error: BaseException) -> BaseException:
    for kind in (UnreachableError, UserError):
        if isinstance(error, kind):
            return kind(str(error))
    if isinstance(error, OSError):
        return OSError(error.errno, error.strerror)
    return RuntimeError(str(error))


class ShardQueue:
    """Shards with bounded attempts.

    Args:
        shards: what to do, in order.
        out: the directory, for messages.
        on_event: called with commits, retries and failures.
    """

    def __init__(self, shards: Iterable[int], out: str, on_event: OnEvent) -> None:
        self._waiting = deque(shards)
        self._attempts: Counter[int] = Counter()
        self._out, self._on_event = out, on_event
        self.summary = Summary()

    def __len__(self) -> int:
        """Shards waiting for a worker."""
        return len(self._waiting)

    def lease(self) -> int:
        """Hand out the next shard; the worker that has it must end in `committed`, `failed` or `lost`."""
        return self._waiting.popleft()

    def committed(self, shard: int, commit: ShardCommit) -> None:
        """A worker has finished a shard."""
        self.summary.committed.append(shard)
        self._on_event(Committed(shard, commit))

    def failed(self, shard: int, failure: Failure) -> None:
        """A worker's attempt failed. Raises UserError where another cannot succeed."""
        failure.raise_if_permanent(self._out)
        self._retry(shard, failure.traceback)

    def lost(self, shard: int, reason: str) -> None:
        """The worker that had the shard is gone."""
        self._retry(shard, reason)

    def _retry(self, shard: int, reason: str) -> None:
        """Queue the shard again, or give it up after MAX_ATTEMPTS."""
        self._attempts[shard] += 1
        if self._attempts[shard] < MAX_ATTEMPTS:
            self.summary.retried += 1
            self._waiting.append(shard)
            self._on_event(Retried(shard, self._attempts[shard], reason))
            return
        self.summary.failed[shard] = reason
        self._on_event(Failed(shard, reason))
        if len(self.summary.failed) >= MAX_FAILED_SHARDS:
            self.summary.abandoned += len(self._waiting)
            self._waiting.clear()
