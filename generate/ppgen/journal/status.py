"""How far a directory is, from what is in it alone: its plan, its commit records and the event log of its last run."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ppcore.shards import INDEX, LOGS
from ppcore.storage import Store, in_order
from ppgen.journal.events import BEAT_S, PREFIX, SUFFIX, UPLOAD_S
from ppgen.journal.records import Record, read_records
from ppgen.shards import ShardCommit, read_any_plan, survey

_WINDOW_S = 600.0  # the rate is that of the last ten minutes
_MISSED_BEATS = 3
_MAX_LOG_BYTES = 16 << 20  # of a part; ours have a quarter of it
_MOST_SHOWN = 5
State = Literal["finished", "running", "dead", "stopped", "failed", "unfinished"]


@dataclass(frozen=True)
class WorkerStatus:
    """What a worker has done in the last run, or a machine in all of them where there is no log.

    Attributes:
        name: node, device and process.
        rate: samples a second while it was at work on a shard; None before its first commit.
        error: the last one, in one line.
    """

    name: str
    shards: int
    samples: int
    rate: float | None
    failures: int
    error: str


@dataclass(frozen=True)
class Status:
    """How far a directory is.

    Attributes:
        state: `finished`; of the last run: `running`, `dead` (no sign of life), `stopped` (by a signal), `failed`; `unfinished` where
            no log tells.
        rate: samples a second of the last ten minutes of the last run.
        eta_s: seconds left at this rate, while it runs.
        worker_hours, hours_left: that workers have spent on what is committed, and will on the rest.
        cost, cost_left: the same in money, where a price is given.
        alive, wanted: workers.
        slowest, failing: workers, the worst first.
        quarantined: places that get no more shards, with the reason.
        last: what the log said last, and how many seconds ago.
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
    """The status of a directory, of a running, dead or finished run, local or remote. Reads only.

    Args:
        price_per_hour: of one worker.
        now: seconds since 1970.

    Raises:
        UserError: no shard directory.
    """
    now = time.time() if now is None else now
    plan = read_any_plan(store)
    found = survey(store, plan)
    records = _read_log(store)
    samples = sum(commit.samples for commit in found.commits.values())
    hours = sum(commit.seconds.total for commit in found.commits.values()) / 3600
    hours_left = hours / samples * (plan.samples - samples) if samples else None
    state = _state(store, records, bool(found.pending), now)
    rate = _rate(records, now if state == "running" else None)
    workers = _workers(records) if _has_commits(records) else _machines(found.commits.values())
    beats = [record for record in records if record.event == "progress"]
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
            {r.shard for r in records if r.event == "failed" and r.shard is not None} - found.commits.keys()
        ),
        slowest=sorted((w for w in workers if w.rate is not None), key=lambda w: w.rate or 0.0)[:_MOST_SHOWN],
        failing=sorted((w for w in workers if w.failures), key=lambda w: -w.failures)[:_MOST_SHOWN],
        quarantined=[f"{_line(r.worker)} {_line(r.text)}" for r in records if r.event == "quarantined"],
        last=f"{_line(records[-1].event)} {_line(records[-1].text)}".strip() if records else "",
        last_s=max(now - records[-1].time, 0.0) if records else None,
    )


def _read_log(store: Store) -> list[Record]:
    """The records of the last run; none where no log is kept."""
    parts = [name for name in store.list(LOGS) if name.startswith(PREFIX) and name.endswith(SUFFIX)]
    if not parts:
        return []
    run = max(name.rsplit("-", 1)[0] for name in parts)
    names = [f"{LOGS}/{name}" for name in parts if name.rsplit("-", 1)[0] == run]
    contents = in_order(lambda name: store.read(name, _MAX_LOG_BYTES), names, store.width)
    return [record for content in contents for record in read_records(content)]


def _state(store: Store, records: Sequence[Record], pending: bool, now: float) -> State:
    if not pending and store.exists(INDEX):
        return "finished"
    if not records:
        return "unfinished"
    last = records[-1]
    if last.event == "ended":
        return "stopped" if last.status in (130, 143) else "failed" if last.status else "unfinished"
    silence = _MISSED_BEATS * BEAT_S + (0.0 if store.is_local else UPLOAD_S)
    return "running" if now - last.time < silence else "dead"


def _has_commits(records: Iterable[Record]) -> bool:
    return any(record.event == "committed" for record in records)


def _rate(records: Sequence[Record], now: float | None) -> float | None:
    """Samples a second, up to now or to the last record of a run that is over."""
    if not _has_commits(records):
        return None
    end = records[-1].time if now is None else now
    start = max(records[0].time, end - _WINDOW_S)
    made = sum(r.samples or 0 for r in records if r.event == "committed" and r.time >= start)
    return made / max(end - start, 1e-3)


def _workers(records: Iterable[Record]) -> list[WorkerStatus]:
    """From the log: one entry a worker."""
    grouped: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.event in ("committed", "missed"):
            grouped[_line(f"{record.node} ({record.device}, {record.worker})")].append(record)
    return [_worker(name, of) for name, of in grouped.items()]


def _worker(name: str, records: list[Record]) -> WorkerStatus:
    made = [record for record in records if record.event == "committed"]
    missed = [record for record in records if record.event == "missed"]
    samples, seconds = sum(r.samples or 0 for r in made), sum(r.seconds or 0.0 for r in made)
    rate = samples / seconds if seconds else None
    return WorkerStatus(name, len(made), samples, rate, len(missed), _line(missed[-1].text) if missed else "")


def _machines(commits: Iterable[ShardCommit]) -> list[WorkerStatus]:
    """From the commit records, which know machine and device and nothing of failures."""
    grouped: dict[str, list[ShardCommit]] = defaultdict(list)
    for commit in commits:
        grouped[_line(f"{commit.host} ({commit.device})")].append(commit)
    machines = []
    for name, of in grouped.items():
        samples, seconds = sum(c.samples for c in of), sum(c.seconds.total for c in of)
        machines.append(WorkerStatus(name, len(of), samples, samples / seconds if seconds else None, 0, ""))
    return machines


def _line(text: str | None) -> str:
    """The last line, without what a terminal would obey: the log may be a stranger's."""
    lines = (text or "").strip().splitlines()
    return "".join(c if c.isprintable() else "?" for c in lines[-1][:200]) if lines else ""
