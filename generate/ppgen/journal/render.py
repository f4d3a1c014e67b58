"""A status as a person reads it."""

from __future__ import annotations

from ppcore.console import format_duration
from ppgen.journal.status import Status, WorkerStatus

_BAR = 30  # characters
_SHARDS_SHOWN = 20


def render(status: Status) -> str:
    """Several lines, the most important first."""
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
    lines.append(_cost(status))
    if status.last:
        lines.append(f"last event: {status.last}, {format_duration(status.last_s or 0.0)} ago")
    if status.failed_shards:
        shown = ", ".join(map(str, status.failed_shards[:_SHARDS_SHOWN]))
        lines.append(f"{len(status.failed_shards)} shards failed: {shown}")
    lines += [f"quarantined: {place}" for place in status.quarantined]
    lines += [f"slowest: {_worker(worker)}" for worker in status.slowest]
    lines += [
        f"failing: {_worker(worker)}, {worker.failures} failures, the last: {worker.error}"
        for worker in status.failing
    ]
    return "\n".join(lines)


def _cost(status: Status) -> str:
    text = f"{status.worker_hours:.2f} worker-hours spent"
    text += f" ({status.cost:.2f} in money)" if status.cost is not None else ""
    if status.hours_left:
        text += f", {status.hours_left:.2f} left"
        text += f" ({status.cost_left:.2f})" if status.cost_left is not None else ""
    return text


def _worker(worker: WorkerStatus) -> str:
    rate = "" if worker.rate is None else f" at {worker.rate:.1f} samples/s"
    return f"{worker.name}: {worker.shards} shards{rate}"
