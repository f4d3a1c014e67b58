"""One run of ppgen: make the missing shards of a job with an engine, report, finish the directory."""

from __future__ import annotations

import signal
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from ppcore.console import EXIT_FAILED, EXIT_USER_ERROR, Progress, Terminated, format_duration
from ppcore.errors import UserError
from ppcore.shards import INDEX, count_indexed
from ppcore.storage import OutsideError, Store
from ppgen.engines.engine import connected, describe_workers, make_shards
from ppgen.engines.events import Event, OnEvent, Outcome, last_line
from ppgen.options import EngineOptions
from ppgen.plan import Conditions, Plan
from ppgen.shards import Job, claimed, finalize, pending_shards, reconcile_plan, survey
from ppgen.sources import Generator, SourceSpec


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


def prepare_job(
    out: str, request: Plan, *, source: SourceSpec, threads: int = 1, part: tuple[int, int] | None = None
) -> Job:
    """The job that makes the plan `request` in the directory `out`; writes nothing. Raises UserError (see :func:`reconcile_plan`)."""
    return Job(reconcile_plan(Store(out), request), out, source, threads, part=part)


def run_job(
    job: Job,
    options: EngineOptions,
    conditions: Conditions | None,
    watchers: Sequence[OnEvent] = (),
    generator: Generator | None = None,
) -> int:
    """Make all shards of `job.plan` that the directory `job.out` lacks, and finish it.

    Args:
        job: from :func:`prepare_job`.
        conditions: of a pseudo plan: the table to write into a new directory.
        watchers: receive every event of the run; none if no shard is missing.
        generator: an already loaded one; a single worker in this process uses it.

    Returns:
        The exit status of the command: 0, or 1 if shards failed.
    """
    store, device = Store(job.out), job.source.device
    with connected(options, device), claimed(store, job.plan, conditions, job.part) as plan:
        found = survey(store, plan)
        pending = job.own(found.pending)
        if not pending and job.part is not None:
            _report_part(job, plan)
            return 0
        if not pending:
            finalize(store, plan, found.commits)
            print(f"{plan.samples} images in {plan.num_shards} shards: {store} (nothing was left to do)")
            return 0
        left = sum(plan.locate(shard)[2] for shard in pending)
        run = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
        job = replace(job, plan=plan, run=run if watchers else "")
        workers = describe_workers(options, plan, device)

        def notify(event: Event) -> None:
            for watcher in watchers:
                watcher(event)

        notify(Event(event="began", run=run, samples=left, shards=len(pending), text=workers))
        try:
            status = _complete(job, pending, options, notify, generator)
        except BaseException as error:
            why = str(error) or type(error).__name__
            notify(Event(event="ended", status=_status_of(error), text=why))
            raise
        notify(Event(event="ended", status=status))
        return status


def _status_of(error: BaseException) -> int | None:
    """The exit status that the command will have, see :func:`ppcore.console.run_app`."""
    if isinstance(error, KeyboardInterrupt):
        return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
    return EXIT_USER_ERROR if isinstance(error, UserError) else None


def _complete(
    job: Job, pending: list[int], options: EngineOptions, on_event: OnEvent, generator: Generator | None
) -> int:
    """Make the pending shards and finish the directory. Returns the exit status."""
    plan, store, start = job.plan, Store(job.out), time.monotonic()
    _withdraw_index(store, pending)
    own = len(job.own(range(plan.num_shards)))
    if len(pending) < own:
        say(f"resuming: {own - len(pending)} of {own} shards are there")
    reporter = ProgressReporter(plan, pending)

    def notify(event: Event) -> None:
        reporter(event)
        on_event(event)

    try:
        outcome = make_shards(job, pending, options, notify, generator)
    except KeyboardInterrupt:
        done = plan.num_shards - len(pending_shards(store, plan))
        say(
            f"\nstopped; {done} of {plan.num_shards} shards are committed in {job.out}; run the same command again to resume"
        )
        raise
    reporter.close()
    if outcome.failed or outcome.not_tried:
        _report_failures(plan, outcome)
        return EXIT_FAILED
    if job.part is not None:
        _report_part(job, plan)
        return 0
    finalize(store, plan)
    print(
        f"{plan.samples} images in {plan.num_shards} shards: {store} in {format_duration(time.monotonic() - start)}"
    )
    return 0


def _report_part(job: Job, plan: Plan) -> None:
    assert job.part is not None
    print(
        f"part {job.part[0]}/{job.part[1]} is made: {len(job.own(range(plan.num_shards)))} of {plan.num_shards} shards are in {job.out}\n"
        f"when all parts are made, finish with the same command without --part, or without the source: ppgen gather {job.out}"
    )


def _report_failures(plan: Plan, outcome: Outcome) -> None:
    shards = "; ".join(describe_shard(plan, shard) for shard in sorted(outcome.failed)[:20])
    more = f"; {outcome.not_tried} more were not tried" if outcome.not_tried else ""
    if outcome.stopped:
        say(f"stopped early: {outcome.stopped}")
    say(
        f"{len(outcome.failed)} of {plan.num_shards} shards failed: {shards}{more}; run the same command again to retry them"
    )


def _withdraw_index(store: Store, pending: list[int]) -> None:
    """Delete an index that lists a pending shard: readers would take the shard for complete."""
    try:
        listed: int | None = count_indexed(store)
    except FileNotFoundError:
        return
    except (OutsideError, ValueError):
        listed = None
    if listed is None or listed > pending[0]:
        store.delete(INDEX)
