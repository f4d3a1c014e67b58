"""One run of ppgen: do what is left of a job with an engine, report, finalize."""

from __future__ import annotations

import time

from ppcore.console import format_duration
from ppcore.shards import INDEX, count_indexed
from ppcore.storage import OutsideError, Store
from ppgen.engines.base import Engine, Summary
from ppgen.engines.progress import ProgressReporter, describe_shard, say
from ppgen.plan import Conditions, Plan
from ppgen.shards import Job, claimed, finalize, pending_shards, reconcile_plan, survey
from ppgen.sources import SourceSpec


def prepare_job(out: str, request: Plan, *, source: SourceSpec, threads: int = 1) -> Job:
    """The job that brings `out` to `request`; writes nothing. Raises UserError (see :func:`reconcile_plan`)."""
    return Job(reconcile_plan(Store(out), request), out, source, threads)


def run_job(job: Job, engine: Engine, conditions: Conditions | None) -> int:
    """Bring the directory `job.out` to the whole of `job.plan`.

    Args:
        job: from :func:`prepare_job`.
        engine: where the shards are made.
        conditions: pseudo plans: the table to write into a new directory.

    Returns:
        The command's exit status: 0, or 1 when shards failed.
    """
    plan, store = job.plan, Store(job.out)
    with engine.connected(), claimed(store, plan, conditions):
        found = survey(store, plan)
        pending = found.pending
        start = time.monotonic()
        if pending:
            _withdraw_index(store, pending)
            if len(pending) < plan.num_shards:
                say(f"resuming: {plan.num_shards - len(pending)} of {plan.num_shards} shards are there")
            summary = _make_shards(job, engine, pending, store)
            for place, error in summary.quarantined.items():
                say(f"quarantined: {place}, whose last error was {error}")
            if summary.failed or summary.abandoned:
                _report_failures(plan, summary)
                return 1
        took = f" in {format_duration(time.monotonic() - start)}" if pending else " (nothing was left to do)"
        finalize(store, plan, None if pending else found.commits)
        print(f"{plan.samples} images in {plan.num_shards} shards: {store}{took}")
        return 0


def _make_shards(job: Job, engine: Engine, pending: list[int], store: Store) -> Summary:
    plan, reporter = job.plan, ProgressReporter(job.plan, pending)
    try:
        summary = engine.run(job, pending, reporter)
    except KeyboardInterrupt:
        done = plan.num_shards - len(pending_shards(store, plan))
        say(
            f"\nstopped; {done} of {plan.num_shards} shards are committed in {store}; run the same command again to resume"
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
