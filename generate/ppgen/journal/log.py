"""The event log of a run: `logs/events-<run>-000.jsonl` in the shard directory, one JSON object a line, limited in size and number."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable

from ppcore.errors import UserError
from ppcore.shards import LOGS
from ppcore.storage import Store, decode
from ppgen.engines import Event
from ppgen.journal.metrics import Counts

BEAT_S = 10.0  # between lines of progress; a run without them is dead
UPLOAD_S = 30.0  # between uploads to an object store
PART_BYTES = 4 << 20
MAX_PARTS = 16  # of a run; the first and the last are kept
MAX_RUNS = 20  # of a directory; the oldest are deleted
MAX_WORKER_LOGS = 100  # of a run
_RUN = re.compile(r"(?:events|worker)-(\d{8}T\d{6}-[0-9a-f]{6})-")
_LAST_UPLOAD_S = 20.0  # how long the end of a run waits for the last upload
PREFIX, SUFFIX = "events-", ".jsonl"
_log = logging.getLogger(__name__)


def read_events(data: bytes) -> list[Event]:
    """The events of a log; incomplete and invalid lines are skipped."""
    events = []
    for line in data.splitlines():
        try:
            events.append(decode(Event, line))
        except ValueError:
            continue
    return events


def _part_name(run: str, part: int) -> str:
    """Path of a part of a run's log."""
    return f"{LOGS}/{PREFIX}{run}-{part:03d}{SUFFIX}"


class EventLog:
    """Writes a line for every event from Began to Ended.

    If the log cannot be written, the run goes on without it after one warning. A thread adds a line of progress every few seconds
    and uploads the current part to an object store.

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
        """Write an event."""
        if event.event == "began":
            self.run = event.run or ""
            self._guarded(self._delete_old_runs)
            self._thread.start()
        with self._lock:
            self._counts.add(event)
        if self.run and event.event not in ("sampled", "workers"):  # the lines of progress sum them up
            self._guarded(lambda: self._append(event))
        if self.run and event.event == "ended":
            self._stop.set()
            self._thread.join(_LAST_UPLOAD_S)

    def _beat(self) -> None:
        uploaded = time.monotonic()
        while not self._stop.wait(BEAT_S):
            with self._lock:
                sampled, alive, wanted = (
                    int(self._counts[f"ppgen_{name}"])
                    for name in ("sampled_total", "workers_alive", "workers_wanted")
                )
            beat = Event(event="progress", samples=sampled, alive=alive, wanted=wanted)
            self._guarded(lambda beat=beat: self._append(beat))  # type: ignore[misc]
            if time.monotonic() - uploaded >= UPLOAD_S:
                self._guarded(self._upload)
                uploaded = time.monotonic()
        self._guarded(self._upload)
        self._guarded(self._delete_worker_logs)

    def _append(self, event: Event) -> None:
        line = event.encode()
        with self._lock:
            if self._written and self._written + len(line) > PART_BYTES:
                self._next_part()
            self._written += len(line)
            if self._store.is_local:
                self._store.append(_part_name(self.run, self._part), line)
            else:
                self._content += line

    def _next_part(self) -> None:
        self._upload()
        self._part, self._written = self._part + 1, 0
        self._content.clear()
        if self._part >= MAX_PARTS:
            self._store.delete(_part_name(self.run, self._part - MAX_PARTS + 1))

    def _upload(self) -> None:
        if self._store.is_local:
            return
        with self._lock:
            name, content = _part_name(self.run, self._part), bytes(self._content)
        self._store.write_atomic(name, content)

    def _delete_old_runs(self) -> None:
        named = [(found[1], name) for name in self._store.list(LOGS) if (found := _RUN.match(name))]
        old = set(sorted({run for run, _ in named})[: -MAX_RUNS + 1])
        for run, name in named:
            if run in old:
                self._store.delete(f"{LOGS}/{name}")

    def _delete_worker_logs(self) -> None:
        """Delete empty logs of workers, and those of more than MAX_WORKER_LOGS workers."""
        logs = {n: size for n, size in self._store.sizes(LOGS).items() if n.startswith(f"worker-{self.run}-")}
        written = [name for name, size in logs.items() if size]
        for name in logs.keys() - set(written[:MAX_WORKER_LOGS]):
            self._store.delete(f"{LOGS}/{name}")

    def _guarded(self, action: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            action()
        except (OSError, UserError) as error:
            self._broken = True
            _log.warning(
                "the event log of %s cannot be written (%s); the run goes on without it", self._store, error
            )
