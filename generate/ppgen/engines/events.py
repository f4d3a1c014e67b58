"""What happens in a run, as its watchers receive it and as the event log stores it; and the outcome of a run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Annotated

from pydantic import Field

_MAX_TEXT = 4000  # characters that the log keeps; of a longer traceback the end
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event. Fields that an event does not have are None.

    Attributes:
        event: what has happened:
            `began`, `ended`: the run. `samples` and `shards` are to be made; `status` is the exit status, None after a crash.
            `joined`, `left`: a worker is ready for shards, or has stopped.
            `workers`: the number of workers has changed: `alive` are ready, `wanted` are wanted.
            `sampled`: some `samples` are drawn, not yet committed; those of a retried shard count again.
            `committed`: a shard is complete: its files and its commit record are written.
            `missed`: an attempt at a shard failed: the worker raised an exception or died.
            `failed`: a shard is not retried any more in this run.
            `quarantined`: a node or a device, named by `worker`, gets no more shards in this run.
            `notice`: a message for the user. `progress`: only in the log: the samples drawn so far.
        worker, node, device: where it happened.
        attempt: of `missed`: number of the attempt, from 1; `again`: the shard will be retried; `died`: the worker has died.
        seconds: of `committed`: from the first sample to the commit.
        text: an error, a notice, a description of the workers.
        time: seconds since 1970, by the clock of the driver.
    """

    event: str
    time: Seconds = field(default_factory=lambda: round(time.time(), 3))
    run: str | None = None
    worker: str | None = None
    node: str | None = None
    device: str | None = None
    shard: Count | None = None
    samples: Count | None = None
    shards: Count | None = None
    seconds: Seconds | None = None
    attempt: Count | None = None
    again: bool | None = None
    died: bool | None = None
    alive: Count | None = None
    wanted: Count | None = None
    status: int | None = None
    text: str | None = None

    @property
    def place(self) -> str:
        """Node, device and process of the worker."""
        return f"{self.node} ({self.device}, {self.worker})"

    def encode(self) -> bytes:
        """A line of the event log: JSON and a line feed."""
        given = {key: value for key, value in asdict(self).items() if value is not None}
        if self.text:
            given["text"] = self.text[-_MAX_TEXT:]
        return json.dumps(given, ensure_ascii=False).encode() + b"\n"


OnEvent = Callable[[Event], None]


@dataclass
class Outcome:
    """What a run could not make.

    Attributes:
        failed: shard -> its last error.
        not_tried: number of shards that were never tried, because the run stopped early.
        stopped: why the run stopped early; empty if it did not.
    """

    failed: dict[int, str] = field(default_factory=dict)
    not_tried: int = 0
    stopped: str = ""
