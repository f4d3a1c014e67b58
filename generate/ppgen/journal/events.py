"""The event log of a run: `logs/events-<run>-000.jsonl` in the shard directory, a JSON object a line, bounded in size and number."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable

from ppcore.errors import UserError
from ppcore.shards import LOGS
from ppcore.storage import Store
from ppgen.engines import Began, Ended, Event
from ppgen.journal.counts import Counts
from ppgen.journal.records import Record, describe

BEAT_S = 10.0  # between records of progress, by which a running run is told from a dead one
UPLOAD_S = 30.0  # between uploads to an object store
PART_BYTES = 4 << 20
MAX_PARTS = 16  # of a run; the first and the last are kept
MAX_RUNS = 20  # of a directory; the oldest go
MAX_WORKER_LOGS = 100  # of a run
_RUN = re.compile(r"(?:events|worker)-(\d{8}T\d{6}-[0-9a-f]{6})-")
_FAREWELL_S = 20.0  # that the end of a run waits for the last upload
PREFIX, SUFFIX = "events-", ".jsonl"
_log = logging.getLogger(__name__)


def part_name(run: str, part: int) -> str:
    """Path of a part of a run's log."""
    return f"{LOGS}/{PREFIX}{run}-{part:03d}{SUFFIX}"


class EventLog:
    """Writes what it is told; nothing before a run begins, nothing after it has ended.

    A log that cannot be written ends no run: one warning, and the run goes on without. A thread adds a record of progress every few
    seconds and, for an object store, uploads the present part.

    Args:
        store: the shard directory.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.run = ""
        self._counts = Counts()
        self._lock = threading.RLock()
        self._part, self._written, self._content = 0, 0, bytearray()
        self._broken = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="event log", daemon=True)

    def __call__(self, event: Event) -> None:
        """Note an event."""
        if isinstance(event, Began):
            self.run = event.run
            self._guarded(self._forget_old_runs)
            self._thread.start()
        with self._lock:
            self._counts.add(event)
        record = describe(event, time.time())
        if record is not None and self.run:
            self._guarded(lambda: self._append(record))
        if isinstance(event, Ended) and self.run:
            self._stop.set()
            self._thread.join(_FAREWELL_S)

    def _beat(self) -> None:
        uploaded = time.monotonic()
        while not self._stop.wait(BEAT_S):
            with self._lock:
                made, alive, wanted = self._counts.sampled, self._counts.alive, self._counts.wanted
            beat = Record(
                time=round(time.time(), 3), event="progress", samples=made, alive=alive, wanted=wanted
            )
            self._guarded(lambda beat=beat: self._append(beat))  # type: ignore[misc]
            if time.monotonic() - uploaded >= UPLOAD_S:
                self._guarded(self._upload)
                uploaded = time.monotonic()
        self._guarded(self._upload)
        self._guarded(self._forget_idle_workers)

    def _append(self, record: Record) -> None:
        line = record.to_line()
        with self._lock:
            if self._written and self._written + len(line) > PART_BYTES:
                self._next_part()
            self._written += len(line)
            if self._store.is_local:
                self._store.append(part_name(self.run, self._part), line)
            else:
                self._content += line

    def _next_part(self) -> None:
        self._upload()
        self._part, self._written = self._part + 1, 0
        self._content.clear()
        if self._part >= MAX_PARTS:
            self._store.delete(part_name(self.run, self._part - MAX_PARTS + 1))

    def _upload(self) -> None:
        if self._store.is_local:
            return
        with self._lock:
            name, content = part_name(self.run, self._part), bytes(self._content)
        self._store.write_atomic(name, content)

    def _forget_old_runs(self) -> None:
        named = [(found[1], name) for name in self._store.list(LOGS) if (found := _RUN.match(name))]
        old = set(sorted({run for run, _ in named})[: -MAX_RUNS + 1])
        for run, name in named:
            if run in old:
                self._store.delete(f"{LOGS}/{name}")

    def _forget_idle_workers(self) -> None:
        """Logs of workers that said nothing, and of more workers than anybody reads."""
        logs = {n: size for n, size in self._store.sizes(LOGS).items() if n.startswith(f"worker-{self.run}-")}
        spoken = [name for name, size in logs.items() if size]
        for name in logs.keys() - set(spoken[:MAX_WORKER_LOGS]):
            self._store.delete(f"{LOGS}/{name}")

    def _guarded(self, action: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            action()
        except (OSError, UserError) as error:
            self._broken = True
            _log.warning(
                "the event log of %s cannot be written (%s); the run goes on without", self._store, error
            )
