"""What every engine is: it schedules shards on workers. What is left to do is decided before, by `ppgen.shards.state`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from ppgen.engines.failures import WorkerLocation
from ppgen.shards import Job, ShardCommit


@dataclass(frozen=True)
class Began:
    """A run begins to make what is missing; `workers`: by whom, in words."""

    run: str
    samples: int
    shards: int
    workers: str


@dataclass(frozen=True)
class Ended:
    """It is over, with the exit status that the command will have; None where an exception ends it."""

    status: int | None
    why: str = ""


@dataclass(frozen=True)
class Joined:
    """A worker is ready for its first shard."""

    place: WorkerLocation


@dataclass(frozen=True)
class Left:
    """A worker is gone."""

    place: WorkerLocation


@dataclass(frozen=True)
class Sampled:
    """A batch was sampled (not yet committed; a retried shard counts again)."""

    samples: int


@dataclass(frozen=True)
class Committed:
    """A shard is whole and recorded."""

    shard: int
    commit: ShardCommit
    place: WorkerLocation


@dataclass(frozen=True)
class Missed:
    """An attempt came to nothing: its worker raised, or died. Whether the shard is tried again is told separately."""

    place: WorkerLocation
    shard: int
    error: str
    died: bool


@dataclass(frozen=True)
class Retried:
    """An attempt failed at a place; the shard is queued again."""

    shard: int
    attempt: int
    error: str
    place: WorkerLocation


@dataclass(frozen=True)
class Failed:
    """A shard failed for good."""

    shard: int
    error: str


@dataclass(frozen=True)
class Quarantined:
    """A place gets no more shards."""

    name: str
    why: str
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


Event = (
    Began
    | Ended
    | Joined
    | Left
    | Sampled
    | Committed
    | Missed
    | Retried
    | Failed
    | Quarantined
    | Workers
    | Notice
)
OnEvent = Callable[[Event], None]


@dataclass
class Summary:
    """Outcome of a run.

    Attributes:
        committed: shards committed in this run.
        failed: shard -> last error, for shards that were given up.
        retried: attempts that failed and were repeated.
        abandoned: shards not tried because nothing succeeded any more.
        quarantined: place -> its last error, where no more shards were made.
        stopped: why the run ended before every shard was tried often enough; empty where it did not.
    """

    committed: list[int] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    retried: int = 0
    abandoned: int = 0
    quarantined: dict[str, str] = field(default_factory=dict)
    stopped: str = ""


class Engine(Protocol):
    """Runs shards on workers.

    Attributes:
        workers: how many, in words.
    """

    workers: str

    def connected(self) -> AbstractContextManager[object]:
        """Reach what the workers run on, for the time of a run and before anything is written. Raises UserError."""
        ...

    def run(self, job: Job, shards: Sequence[int], on_event: OnEvent) -> Summary:
        """Return when every shard is committed or has failed for good. Raises UserError for what no retry mends."""
        ...
