"""The status of a directory, from its plan, its commit records and the event log of its last run, and its text for a terminal."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ppcore.console import format_duration
from ppcore.shards import INDEX, LOGS
from ppcore.storage import Store, in_order
from ppgen.engines import Event
from ppgen.journal.log import BEAT_S, PREFIX, SUFFIX, UPLOAD_S, read_events
from ppgen.shards import ShardCommit, read_plan, survey

_WINDOW_S = 600.0  # over which the rate is measured
_MISSED_BEATS = 3
_MAX_LOG_BYTES = 16 << 20  # of a part; four times what we write
_MOST_SHOWN = 5
_BAR = 30  # characters
_SHARDS_SHOWN = 20
State = Literal["finished", "running", "dead", "stopped", "failed", "unfinished"]


@dataclass(frozen=True)
class WorkerStatus:
    """What a worker has done in the last run or, without a log, what a machine has done in all runs.

    Attributes:
        name: node, device and process.
        rate: samples a second during its shards; None before its first commit.
        error: the last line of its last error.
    """

    name: str
    shards: int
    samples: int
    rate: float | None
    failures: int
    error: str


@dataclass(frozen=True)
class Status:
    """The status of a directory.

    Attributes:
        state: `finished`; of the last run: `running`, `dead` (no line in the log for a while), `stopped` (by a signal), `failed`;
            `unfinished` if there is no log.
        rate: samples a second of the last ten minutes of the last run.
        eta_s: seconds left at this rate, while it runs.
        worker_hours, hours_left: of workers, for the committed shards and for the rest.
        cost, cost_left: the same in money, if a price is given.
        alive, wanted: workers.
        slowest, failing: workers, the worst first.
        quarantined: nodes and devices that get no more shards, with the reason.
        last, last_s: the last line of the log, and its age in seconds.
    """

    directory: str
    state: State
    samples: int
    planned_samples: int
    shards: int
    planned_shards: int
    rate: float | None
    eta_s: float | None
    worker_hours: float
    hours_left: float | None
    cost: float | None
    cost_left: float | None
    alive: int | None
    wanted: int | None
    failed_shards: list[int]
    slowest: list[WorkerStatus]
    failing: list[WorkerStatus]
    quarantined: list[str]
    last: str
    last_s: float | None


def read_status(store: Store, price_per_hour: float | None = None, now: float | None = None) -> Status:
    """Read the status of a directory, local or remote; writes nothing.

    Args:
        price_per_hour: of one worker.
        now: seconds since 1970.

    Raises:
        UserError: it is not a shard directory.
    """
    now = time.time() if now is None else now
    plan = read_plan(store)
    found = survey(store, plan)
    events = _read_log(store)
    samples = sum(commit.samples for commit in found.commits.values())
    hours = sum(commit.seconds.total for commit in found.commits.values()) / 3600
    hours_left = hours / samples * (plan.samples - samples) if samples else None
    state = _state(store, events, bool(found.pending), now)
    rate = _rate(events, now if state == "running" else None)
    workers = _workers(events) if _has_commits(events) else _machines(found.commits.values())
    beats = [event for event in events if event.event == "progress"]
    price = price_per_hour
    return Status(
        directory=str(store),
        state=state,
        samples=samples,
        planned_samples=plan.samples,
        shards=len(found.commits),
        planned_shards=plan.num_shards,
        rate=rate,
        eta_s=(plan.samples - samples) / rate if state == "running" and rate else None,
        worker_hours=hours,
        hours_left=hours_left,
        cost=None if price is None else hours * price,
        cost_left=None if price is None or hours_left is None else hours_left * price,
        alive=beats[-1].alive if beats and state == "running" else None,
        wanted=beats[-1].wanted if beats and state == "running" else None,
        failed_shards=sorted(
            {r.shard for r in events if r.event == "failed" and r.shard is not None} - found.commits.keys()
        ),
        slowest=sorted((w for w in workers if w.rate is not None), key=lambda w: w.rate or 0.0)[:_MOST_SHOWN],
        failing=sorted((w for w in workers if w.failures), key=lambda w: -w.failures)[:_MOST_SHOWN],
        quarantined=[f"{_line(r.worker)} {_line(r.text)}" for r in events if r.event == "quarantined"],
        last=f"{_line(events[-1].event)} {_line(events[-1].text)}".strip() if events else "",
        last_s=max(now - events[-1].time, 0.0) if events else None,
    )


def _read_log(store: Store) -> list[Event]:
    """The lines of the last run; none if there is no log."""
    parts = [name for name in store.list(LOGS) if name.startswith(PREFIX) and name.endswith(SUFFIX)]
    if not parts:
        return []
    run = max(name.rsplit("-", 1)[0] for name in parts)
    names = [f"{LOGS}/{name}" for name in parts if name.rsplit("-", 1)[0] == run]
    contents = in_order(lambda name: store.read(name, _MAX_LOG_BYTES), names, store.width)
    return [event for content in contents for event in read_events(content)]


def _state(store: Store, events: Sequence[Event], pending: bool, now: float) -> State:
    if not pending and store.exists(INDEX):
        return "finished"
    if not events:
        return "unfinished"
    last = events[-1]
    if last.event == "ended":
        return "stopped" if last.status in (130, 143) else "failed" if last.status else "unfinished"
    silence = _MISSED_BEATS * BEAT_S + (0.0 if store.is_local else UPLOAD_S)
    return "running" if now - last.time < silence else "dead"


def _has_commits(events: Iterable[Event]) -> bool:
    return any(event.event == "committed" for event in events)


def _rate(events: Sequence[Event], now: float | None) -> float | None:
    """Samples a second, up to now or to the last line of a run that is over."""
    if not _has_commits(events):
        return None
    end = events[-1].time if now is None else now
    start = max(events[0].time, end - _WINDOW_S)
    made = sum(r.samples or 0 for r in events if r.event == "committed" and r.time >= start)
    return made / max(end - start, 1e-3)


def _workers(events: Iterable[Event]) -> list[WorkerStatus]:
    """One entry for each worker in the log."""
    grouped: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        if event.event in ("committed", "missed"):
            grouped[_line(event.place)].append(event)
    return [_worker(name, of) for name, of in grouped.items()]


def _worker(name: str, events: list[Event]) -> WorkerStatus:
    made = [event for event in events if event.event == "committed"]
    missed = [event for event in events if event.event == "missed"]
    samples, seconds = sum(r.samples or 0 for r in made), sum(r.seconds or 0.0 for r in made)
    rate = samples / seconds if seconds else None
    return WorkerStatus(name, len(made), samples, rate, len(missed), _line(missed[-1].text) if missed else "")


def _machines(commits: Iterable[ShardCommit]) -> list[WorkerStatus]:
    """One entry for each machine and device in the commit records, which contain no failures."""
    grouped: dict[str, list[ShardCommit]] = defaultdict(list)
    for commit in commits:
        grouped[_line(f"{commit.host} ({commit.device})")].append(commit)
    machines = []
    for name, of in grouped.items():
        samples, seconds = sum(c.samples for c in of), sum(c.seconds.total for c in of)
        machines.append(WorkerStatus(name, len(of), samples, samples / seconds if seconds else None, 0, ""))
    return machines


def _line(text: str | None) -> str:
    """The last line, without control characters: somebody else may have written the log."""
    lines = (text or "").strip().splitlines()
    return "".join(c if c.isprintable() else "?" for c in lines[-1][:200]) if lines else ""


def render(status: Status) -> str:
    """Several lines of text, the most important first."""
    share = status.samples / max(status.planned_samples, 1)
    done = int(_BAR * share)
    lines = [
        f"{status.directory}: {status.state}",
        f"[{'#' * done}{'.' * (_BAR - done)}] {100 * share:.1f} %, {status.samples} of {status.planned_samples} samples, "
        f"{status.shards} of {status.planned_shards} shards",
    ]
    pace = [] if status.rate is None else [f"{status.rate:.1f} samples/s"]
    if status.eta_s is not None:
        pace.append(f"ETA {format_duration(status.eta_s)}")
    if status.alive is not None:
        pace.append(f"{status.alive} of {status.wanted} workers alive")
    lines += [", ".join(pace)] if pace else []
    lines.append(_cost_text(status))
    if status.last:
        lines.append(f"last event: {status.last}, {format_duration(status.last_s or 0.0)} ago")
    if status.failed_shards:
        shown = ", ".join(map(str, status.failed_shards[:_SHARDS_SHOWN]))
        lines.append(f"{len(status.failed_shards)} shards failed: {shown}")
    lines += [f"quarantined: {place}" for place in status.quarantined]
    lines += [f"slowest: {_worker_text(worker)}" for worker in status.slowest]
    lines += [
        f"failing: {_worker_text(worker)}, {worker.failures} failures, the last: {worker.error}"
        for worker in status.failing
    ]
    return "\n".join(lines)


def _cost_text(status: Status) -> str:
    text = f"{status.worker_hours:.2f} worker-hours spent"
    text += f" ({status.cost:.2f} in money)" if status.cost is not None else ""
    if status.hours_left:
        text += f", {status.hours_left:.2f} left"
        text += f" ({status.cost_left:.2f})" if status.cost_left is not None else ""
    return text


def _worker_text(worker: WorkerStatus) -> str:
    rate = "" if worker.rate is None else f" at {worker.rate:.1f} samples/s"
    return f"{worker.name}: {worker.shards} shards{rate}"
