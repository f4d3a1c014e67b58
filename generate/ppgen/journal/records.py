"""One line of the event log: what happened when, in words that do not depend on the engine."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field

from ppcore.storage import decode
from ppgen.engines import (
    Began,
    Committed,
    Ended,
    Event,
    Failed,
    Joined,
    Left,
    Missed,
    Notice,
    Quarantined,
    Retried,
)

_MAX_TEXT = 4000  # characters; of a traceback the end
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True)
class Record:
    """A record; what an event does not have is None and left out of the line.

    Attributes:
        time: seconds since 1970, of the driver's clock.
        event: began, committed, missed (an attempt failed), retried, failed, joined, left, quarantined, notice, progress, ended.
        worker, node, device: where.
        shard, samples, seconds: what was made; of `progress` the samples made so far in the run.
        attempt: how often a shard was tried.
        died: of `missed`: whether the worker is gone with it.
        alive, wanted: workers.
        status: of `ended`: the exit status the command ends with, where it is known.
        text: an error, a notice, the engine in words.
    """

    time: Seconds
    event: str
    worker: str | None = None
    node: str | None = None
    device: str | None = None
    shard: Count | None = None
    samples: Count | None = None
    seconds: Seconds | None = None
    attempt: Count | None = None
    died: bool | None = None
    alive: Count | None = None
    wanted: Count | None = None
    status: int | None = None
    text: str | None = None

    def to_line(self) -> bytes:
        """JSON and a line feed."""
        given = {key: value for key, value in asdict(self).items() if value is not None}
        return json.dumps(given, ensure_ascii=False).encode() + b"\n"


def read_records(data: bytes) -> list[Record]:
    """The records of a log; a line that is torn or of another making is left out."""
    records = []
    for line in data.splitlines():
        try:
            records.append(decode(Record, line))
        except ValueError:
            continue
    return records


def describe(event: Event, now: float) -> Record | None:
    """The record of an event; None for the many that are counted and summed up every few seconds."""
    name = type(event).__name__.lower()
    fields: dict[str, Any] = {}
    place = getattr(event, "place", None)
    if place is not None:
        fields.update(worker=place.worker, node=place.node, device=place.device)
    if isinstance(event, Began):
        fields.update(samples=event.samples, text=event.workers)
    elif isinstance(event, Committed):
        commit = event.commit
        fields = {"node": commit.host, "device": commit.device, **fields}
        fields.update(shard=event.shard, samples=commit.samples, seconds=commit.seconds.total)
    elif isinstance(event, Missed):
        fields.update(shard=event.shard, died=event.died, text=event.error)
    elif isinstance(event, Retried):
        fields.update(shard=event.shard, attempt=event.attempt)
    elif isinstance(event, Failed):
        fields.update(shard=event.shard, text=event.error)
    elif isinstance(event, Quarantined):
        fields.update(worker=event.name, text=f"{event.why}: {event.error}")
    elif isinstance(event, Notice):
        fields.update(text=event.text)
    elif isinstance(event, Ended):
        fields.update(status=event.status, text=event.why)
    elif not isinstance(event, Joined | Left):
        return None
    if fields.get("text"):
        fields["text"] = fields["text"][-_MAX_TEXT:]
    return Record(time=round(now, 3), event=name, **fields)
