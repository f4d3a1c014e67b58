"""What the user reads while an engine runs."""

from __future__ import annotations

import sys

from ppcore.console import Progress
from ppgen.engines.base import Committed, Event, Failed, Notice, Quarantined, Retried, Sampled, Workers
from ppgen.engines.failures import last_line
from ppgen.plan import Plan


class ProgressReporter:
    """Turns an engine's events into progress lines and keeps the counts for the summary."""

    def __init__(self, plan: Plan, pending: list[int]) -> None:
        self._plan, self._shards = plan, len(pending)
        left = sum(plan.locate(shard)[2] for shard in pending)
        self._progress = Progress(plan.samples, "images", done=plan.samples - left, label=plan.kind)
        self._done = self._retried = self._failed = 0
        self._workers: Workers | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Sampled):
            self._progress.advance(event.samples, self._note())
        elif isinstance(event, Retried):
            self._retried += 1
            shard = describe_shard(self._plan, event.shard)
            say(f"{shard} failed on {event.place} and is tried again: {last_line(event.error)}")
        elif isinstance(event, Failed):
            self._failed += 1
            say(f"{describe_shard(self._plan, event.shard)} FAILED for good:\n{event.error}")
        elif isinstance(event, Committed):
            self._done += 1
            self._progress.advance(0, self._note())
        elif isinstance(event, Workers):
            self._workers = event
            self._progress.advance(0, self._note())
        elif isinstance(event, Quarantined):
            say(f"{event.name} {event.why} and gets no more shards: {event.error}")
        elif isinstance(event, Notice):
            say(event.text)

    def close(self) -> None:
        """Print the last line."""
        self._progress.close(self._note())

    def _note(self) -> str:
        notes = [f"{self._done} of {self._shards} shards done"]
        notes += [f"{n} {what}" for n, what in ((self._retried, "retried"), (self._failed, "failed")) if n]
        if self._workers is not None:
            notes.append(f"{self._workers.alive} of {self._workers.wanted} workers alive")
        return ", ".join(notes)


def describe_shard(plan: Plan, shard: int) -> str:
    """A shard and its row of the plan, for messages."""
    segment, first, count = plan.locate(shard)
    start = segment.start + first
    return f"shard {shard} (samples {start} to {start + count - 1}, seed {plan.seed})"


def say(text: str) -> None:
    """A line on standard error; standard output is for results."""
    print(text, file=sys.stderr, flush=True)
