"""What the user reads while an engine runs."""

from __future__ import annotations

import sys

from ppcore.console import Progress
from ppgen.engines.events import Event
from ppgen.engines.failures import last_line
from ppgen.plan import Plan


class ProgressReporter:
    """Prints events as lines and keeps a progress line up to date."""

    def __init__(self, plan: Plan, pending: list[int]) -> None:
        self._plan, self._shards = plan, len(pending)
        left = sum(plan.locate(shard)[2] for shard in pending)
        self._progress = Progress(plan.samples, "images", done=plan.samples - left, label=plan.kind)
        self._done = self._retried = self._failed = 0
        self._alive = self._wanted = 0
        self._quarantined: list[str] = []

    def __call__(self, event: Event) -> None:
        text = event.text or ""
        if event.event == "missed":
            self._retried += bool(event.again)
            then = "is tried again" if event.again else "has failed too often"
            say(f"{self._shard(event)} failed on {event.place} and {then}: {last_line(text)}")
        elif event.event == "failed":
            self._failed += 1
            say(f"{self._shard(event)} FAILED for good:\n{text}")
        elif event.event == "quarantined":
            why, _, error = text.partition(": ")
            self._quarantined.append(f"quarantined: {event.worker}, whose last error was {error}")
            say(f"{event.worker} {why} and gets no more shards: {error}")
        elif event.event == "notice":
            say(text)
        elif event.event in ("sampled", "committed", "workers"):
            self._done += event.event == "committed"
            if event.event == "workers":
                self._alive, self._wanted = event.alive or 0, event.wanted or 0
            sampled = event.samples or 0 if event.event == "sampled" else 0
            self._progress.advance(sampled, self._note())

    def close(self) -> None:
        """Print the last line, and once more which nodes and workers were quarantined."""
        self._progress.close(self._note())
        for line in self._quarantined:
            say(line)

    def _note(self) -> str:
        notes = [f"{self._done} of {self._shards} shards done"]
        notes += [f"{n} {what}" for n, what in ((self._retried, "retried"), (self._failed, "failed")) if n]
        if self._wanted > 1:
            notes.append(f"{self._alive} of {self._wanted} workers alive")
        return ", ".join(notes)

    def _shard(self, event: Event) -> str:
        return describe_shard(self._plan, event.shard or 0)


def describe_shard(plan: Plan, shard: int) -> str:
    """A shard and its samples, for messages."""
    segment, first, count = plan.locate(shard)
    start = segment.start + first
    return f"shard {shard} (samples {start} to {start + count - 1}, seed {plan.seed})"


def say(text: str) -> None:
    """Print a line on standard error; standard output is for results."""
    print(text, file=sys.stderr, flush=True)
