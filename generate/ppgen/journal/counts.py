"""The numbers of a run so far, from its events."""

from __future__ import annotations

from dataclasses import dataclass, field

from ppgen.engines import (
    Began,
    Committed,
    Ended,
    Event,
    Failed,
    Joined,
    Left,
    Missed,
    Quarantined,
    Sampled,
    WorkerLocation,
    Workers,
)


@dataclass
class Counts:
    """Counters (they only grow) and gauges.

    Attributes:
        planned_samples, planned_shards: that the run has to make.
        sampled: samples drawn, those of repeated attempts among them.
        samples, shards: committed.
        failed_attempts, failed_shards, quarantined: see :mod:`ppgen.engines.base`.
        alive, wanted: workers.
    """

    planned_samples: int = 0
    planned_shards: int = 0
    sampled: int = 0
    samples: int = 0
    shards: int = 0
    failed_attempts: int = 0
    failed_shards: int = 0
    quarantined: int = 0
    alive: int = 0
    wanted: int = 0
    _places: set[WorkerLocation] = field(default_factory=set)

    def add(self, event: Event) -> None:
        """Count one event."""
        if isinstance(event, Began):
            self.planned_samples, self.planned_shards = event.samples, event.shards
        elif isinstance(event, Sampled):
            self.sampled += event.samples
        elif isinstance(event, Committed):
            self.samples += event.commit.samples
            self.shards += 1
        elif isinstance(event, Missed):
            self.failed_attempts += 1
            self._leave(event.place)  # a worker is replaced after an exception, too
        elif isinstance(event, Failed):
            self.failed_shards += 1
        elif isinstance(event, Quarantined):
            self.quarantined += 1
        elif isinstance(event, Joined):
            self._places.add(event.place)
            self.alive = len(self._places)
            self.wanted = max(self.wanted, self.alive)
        elif isinstance(event, Left):
            self._leave(event.place)
        elif isinstance(event, Ended):
            self.alive = 0
        elif isinstance(event, Workers):
            self.alive, self.wanted = event.alive, event.wanted

    def _leave(self, place: WorkerLocation) -> None:
        self._places.discard(place)
        self.alive = len(self._places)
