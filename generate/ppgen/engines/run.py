"""One run of ppgen: settle the plan, do what is left of it with an engine, report, finalize."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from ppcore.console import Progress, format_duration
from ppcore.shards import INDEX, default_directory
from ppcore.storage import MAX_JSON_BYTES, Store, decode
from ppgen.engines.base import Committed, Engine, Event, Failed, Notice, Retried, Sampled, Workers
from ppgen.plan import Conditions, Plan
from ppgen.shards import SMALL_SIDE, Job, claimed, finalize, pending_shards, reconcile_plan
from ppgen.sources import choose_device

_WORTH_A_PROCESS = 2000  # samples; below it starting processes costs more than they save


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads(plan: Plan) -> int:
    """CPU threads of a worker. It depends on the picture alone, never on the number of workers: other thread counts give
    other last bits."""
    return 1 if plan.resolution <= SMALL_SIDE else cores()


def default_workers(plan: Plan, device: str) -> int:
    """As many processes as cores for small pictures on the CPU, else one."""
    small = plan.resolution <= SMALL_SIDE and plan.samples >= _WORTH_A_PROCESS
    return cores() if small and choose_device(device).type == "cpu" else 1


def default_out(plan: Plan) -> str:
    """The directory of a plan when none is given."""
    target = str(plan.target["name"]) if plan.target is not None else None
    return default_directory(plan.kind, str(plan.source["name"]), target)


class Reporter:
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
            told = f"{describe_shard(self._plan, event.shard)} failed in attempt {event.attempt} and is tried again"
            self._say(f"{told}: {_last(event.error)}")
        elif isinstance(event, Failed):
            self._failed += 1
            self._say(f"{describe_shard(self._plan, event.shard)} FAILED for good:\n{event.error}")
        elif isinstance(event, Committed):
            self._done += 1
            self._progress.advance(0, self._note())
        elif isinstance(event, Workers):
            self._workers = event
            self._progress.advance(0, self._note())
        elif isinstance(event, Notice):
            self._say(event.text)

    def close(self) -> None:
        """Print the last line."""
        self._progress.close(self._note())

    def _note(self) -> str:
        told = [f"{self._done} of {self._shards} shards done"]
        told += [f"{n} {what}" for n, what in ((self._retried, "retried"), (self._failed, "failed")) if n]
        if self._workers is not None:
            told.append(f"{self._workers.alive} of {self._workers.wanted} workers alive")
        return ", ".join(told)

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def run_job(job: Job, engine: Engine, conditions: Conditions | None) -> int:
    """Bring the directory `job.out` to the whole of `job.plan`.

    Args:
        job: its plan must have gone through :func:`ppgen.shards.directory.reconcile_plan`.
        engine: where the shards are made.
        conditions: pseudo plans: the table to write into a new directory.

    Returns:
        The command's exit status: 0, or 1 when shards failed.
    """
    plan, store = job.plan, Store(job.out)
    with engine.connected(), claimed(store, plan, conditions):
        pending = pending_shards(store, plan)
        if not pending:
            return _finish(store, plan, 0.0)
        _withdraw_index(store, pending)
        report, start = Reporter(plan, pending), time.monotonic()
        if len(pending) < plan.num_shards:
            print(
                f"resuming: {plan.num_shards - len(pending)} of {plan.num_shards} shards are there",
                file=sys.stderr,
            )
        try:
            summary = engine.run(job, pending, report)
        except KeyboardInterrupt:
            done = plan.num_shards - len(pending_shards(store, plan))
            print(
                f"\nstopped; {done} of {plan.num_shards} shards are committed in {store}; run the same command again to resume",
                file=sys.stderr,
            )
            raise
        report.close()
        if summary.failed:
            told = "; ".join(describe_shard(plan, shard) for shard in sorted(summary.failed)[:20])
            more = f"; {summary.abandoned} more were not tried" if summary.abandoned else ""
            print(
                f"{len(summary.failed)} of {plan.num_shards} shards failed: {told}{more}; run the same command again to try them anew",
                file=sys.stderr,
            )
            return 1
        return _finish(store, plan, time.monotonic() - start)


def prepare_job(out: str, request: Plan, **job: Any) -> Job:
    """The job that brings `out` to `request`; writes nothing. Raises UserError (see reconcile_plan)."""
    return Job(reconcile_plan(Store(out), request), out, **job)


def describe_shard(plan: Plan, shard: int) -> str:
    """A shard and its row of the plan, for messages."""
    segment, first, count = plan.locate(shard)
    start = segment.start + first
    return f"shard {shard} (samples {start} to {start + count - 1}, seed {plan.seed})"


def _finish(store: Store, plan: Plan, seconds: float) -> int:
    finalize(store, plan)
    took = f" in {format_duration(seconds)}" if seconds else " (nothing was left to do)"
    print(f"{plan.samples} images in {plan.num_shards} shards: {store}{took}")
    return 0


def _withdraw_index(store: Store, pending: list[int]) -> None:
    """An index that lists a shard which is missing or damaged would be a lie until the shard is made again."""
    try:
        sound = len(decode(dict[str, Any], store.read(INDEX, MAX_JSON_BYTES))["shardlist"]) <= pending[0]
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        store.delete(INDEX)


def _last(text: str) -> str:
    return text.strip().splitlines()[-1]
