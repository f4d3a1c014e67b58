"""One run of ppgen: do what is left of a job with an engine, report, finalize."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from ppcore.console import EXIT_FAILED, EXIT_USER_ERROR, Terminated, format_duration
from ppcore.errors import UserError
from ppcore.shards import INDEX, count_indexed
from ppcore.storage import OutsideError, Store
from ppgen.engines.base import Began, Ended, Engine, Event, OnEvent, Summary
from ppgen.engines.progress import ProgressReporter, describe_shard, say
from ppgen.plan import Conditions, Plan
from ppgen.shards import Job, claimed, finalize, pending_shards, reconcile_plan, survey
from ppgen.sources import SourceSpec


def prepare_job(out: str, request: Plan, *, source: SourceSpec, threads: int = 1) -> Job:
    """The job that brings `out` to `request`; writes nothing. Raises UserError (see :func:`reconcile_plan`)."""
    return Job(reconcile_plan(Store(out), request), out, source, threads)


def run_job(job: Job, engine: Engine, conditions: Conditions | None, watchers: Sequence[OnEvent] = ()) -> int:
    """Bring the directory `job.out` to the whole of `job.plan`.

    Args:
        job: from :func:`prepare_job`.
        engine: where the shards are made.
        conditions: pseudo plans: the table to write into a new directory.
        watchers: told of every event, from Began to Ended; of none where nothing is left to do.

    Returns:
        The command's exit status: 0, or 1 when shards failed.
    """
    store = Store(job.out)
    with engine.connected(), claimed(store, job.plan, conditions) as plan:
        found = survey(store, plan)
        if not found.pending:
            finalize(store, plan, found.commits)
            print(f"{plan.samples} images in {plan.num_shards} shards: {store} (nothing was left to do)")
            return 0
        left = sum(plan.locate(shard)[2] for shard in found.pending)
        run = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
        job = replace(job, plan=plan, run=run if watchers else "")
        _tell(watchers, Began(run, left, len(found.pending), engine.workers))
        try:
            status = _complete(job, engine, found.pending, lambda event: _tell(watchers, event))
        except BaseException as error:
            _tell(watchers, Ended(_status_of(error), str(error) or type(error).__name__))
            raise
        _tell(watchers, Ended(status))
        return status


def _tell(watchers: Sequence[OnEvent], event: Event) -> None:
    for watcher in watchers:
        watcher(event)


def _status_of(error: BaseException) -> int | None:
    """The exit status that the command will have, see :func:`ppcore.console.run_app`."""
    if isinstance(error, KeyboardInterrupt):
        return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
    return EXIT_USER_ERROR if isinstance(error, UserError) else None


def _complete(job: Job, engine: Engine, pending: list[int], on_event: OnEvent) -> int:
    """Make the shards that are missing and finish the directory. Returns the exit status."""
    plan, store, start = job.plan, Store(job.out), time.monotonic()
    _withdraw_index(store, pending)
    if len(pending) < plan.num_shards:
        say(f"resuming: {plan.num_shards - len(pending)} of {plan.num_shards} shards are there")
    summary = _make_shards(job, engine, pending, on_event)
    for place, error in summary.quarantined.items():
        say(f"quarantined: {place}, whose last error was {error}")
    if summary.failed or summary.abandoned:
        _report_failures(plan, summary)
        return EXIT_FAILED
    finalize(store, plan)
    took = format_duration(time.monotonic() - start)
    print(f"{plan.samples} images in {plan.num_shards} shards: {store} in {took}")
    return 0


def _make_shards(job: Job, engine: Engine, pending: list[int], on_event: OnEvent) -> Summary:
    plan, reporter = job.plan, ProgressReporter(job.plan, pending)

    def tell(event: Event) -> None:
        reporter(event)
        on_event(event)

    try:
        summary = engine.run(job, pending, tell)
    except KeyboardInterrupt:
        done = plan.num_shards - len(pending_shards(Store(job.out), plan))
        say(
            f"\nstopped; {done} of {plan.num_shards} shards are committed in {job.out}; run the same command again to resume"
        )
        raise
    reporter.close()
    return summary


def _report_failures(plan: Plan, summary: Summary) -> None:
    shards = "; ".join(describe_shard(plan, shard) for shard in sorted(summary.failed)[:20])
    more = f"; {summary.abandoned} more were not tried" if summary.abandoned else ""
    if summary.stopped:
        say(f"stopped early: {summary.stopped}")
    say(
        f"{len(summary.failed)} of {plan.num_shards} shards failed: {shards}{more}; run the same command again to try them anew"
    )


def _withdraw_index(store: Store, pending: list[int]) -> None:
    """An index that lists a shard which is missing or damaged would be a lie until the shard is made again."""
    try:
        listed: int | None = count_indexed(store)
    except FileNotFoundError:
        return
    except (OutsideError, ValueError):
        listed = None
    if listed is None or listed > pending[0]:
        store.delete(INDEX)
