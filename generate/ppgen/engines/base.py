"""What every engine is: it schedules shards on workers. What is left to do is decided before, by `ppgen.shards.directory`."""

from __future__ import annotations

import errno
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ppcore.errors import UserError
from ppcore.storage import UnreachableError
from ppgen.shards import Job, ShardCommit

MAX_ATTEMPTS = 3
MAX_FAILED_SHARDS = 10  # a fault that hits every shard must not cost the whole plan three times
_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass(frozen=True)
class Sampled:
    """A batch was sampled (not yet committed; a retried shard counts again)."""

    samples: int


@dataclass(frozen=True)
class Committed:
    """A shard is whole and recorded."""

    shard: int
    record: ShardCommit


@dataclass(frozen=True)
class Retried:
    """An attempt failed; the shard is queued again."""

    shard: int
    attempt: int
    error: str


@dataclass(frozen=True)
class Failed:
    """A shard failed for good."""

    shard: int
    error: str


@dataclass(frozen=True)
class Workers:
    """How many workers are alive now, of how many wanted."""

    alive: int
    wanted: int


@dataclass(frozen=True)
class Notice:
    """Something the user should read while the run goes on."""

    text: str


Event = Sampled | Committed | Retried | Failed | Workers | Notice
OnEvent = Callable[[Event], None]


@dataclass
class Summary:
    """Outcome of a run.

    Attributes:
        committed: shards committed in this run.
        failed: shard -> last error, for shards that failed in every attempt.
        retried: attempts that failed and were repeated.
        abandoned: shards not tried because too many others had failed.
    """

    committed: list[int] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    retried: int = 0
    abandoned: int = 0


class Engine(Protocol):
    """`run` returns when every shard is committed or has failed for good; it raises UserError for what no retry mends."""

    def run(self, job: Job, shards: Sequence[int], on_event: OnEvent) -> Summary: ...


class Queue:
    """The shards still to do, with bounded attempts; every engine schedules from one of these.

    Args:
        shards: what to do, in order.
        on_event: told of commits, retries and failures.
    """

    def __init__(self, shards: Iterable[int], on_event: OnEvent) -> None:
        self._waiting = deque(shards)
        self._failures: Counter[int] = Counter()
        self._on_event = on_event
        self.summary = Summary()

    def __len__(self) -> int:
        """Shards waiting to be handed out."""
        return len(self._waiting)

    def take(self) -> int:
        """The next shard to hand out."""
        return self._waiting.popleft()

    def committed(self, shard: int, record: ShardCommit) -> None:
        """A worker reports a commit record."""
        self.summary.committed.append(shard)
        self._on_event(Committed(shard, record))

    def failed(self, shard: int, error: str) -> None:
        """An attempt failed: queue the shard again, or give it up after MAX_ATTEMPTS."""
        self._failures[shard] += 1
        if self._failures[shard] < MAX_ATTEMPTS:
            self.summary.retried += 1
            self._waiting.append(shard)
            self._on_event(Retried(shard, self._failures[shard], error))
            return
        self.summary.failed[shard] = error
        self._on_event(Failed(shard, error))
        if len(self.summary.failed) >= MAX_FAILED_SHARDS:
            self.summary.abandoned += len(self._waiting)
            self._waiting.clear()


def refuse_hopeless(error: BaseException, out: str) -> None:
    """Raise UserError for what another attempt cannot mend: the user's mistake, a full or read-only disk."""
    if isinstance(error, UserError) and not isinstance(error, UnreachableError):
        raise error
    if isinstance(error, OSError) and error.errno in _HOPELESS:
        raise UserError(
            f"cannot write to {out} ({error.strerror}); make it writable or free some space, then run the same command again "
            f"to resume"
        ) from error


def told(error: BaseException) -> str:
    """The traceback as text."""
    return "".join(traceback.format_exception(error)).strip()


def portable(error: BaseException) -> BaseException:
    """An exception that is sure to pass from process to process, with what :func:`refuse_hopeless` looks at."""
    for kind in (UnreachableError, UserError):
        if isinstance(error, kind):
            return kind(str(error))
    if isinstance(error, OSError):
        return OSError(error.errno, error.strerror)
    return RuntimeError(str(error))
