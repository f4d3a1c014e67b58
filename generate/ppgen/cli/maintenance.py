"""What the commands for existing directories and for targets do, and what they print."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

from ppcore.console import EXIT_FAILED, Progress, print_table, printable, shortened
from ppcore.errors import UserError
from ppcore.shards import ShardSet
from ppcore.storage import Store
from ppcore.targets import inspect_target, list_targets, load_target
from ppgen import exchange, upkeep
from ppgen.cli import generation
from ppgen.engines import default_threads, open_for_workers, prepare_job
from ppgen.journal import read_status, render
from ppgen.options import ExtendOptions, ReportOptions, VerifyOptions
from ppgen.plan import Plan
from ppgen.quality import QUALITY, assess, summary_rows, write_report
from ppgen.shards import Job, Worker, read_plan, require_writable
from ppgen.sources import Generator, SourceSpec, planned_spec

_STATUS_EVERY_S = 5.0
_HUB = "hf://"
_MOST_NAMED = 20


def extend(directory: str, options: ExtendOptions) -> int:
    """Raise the totals of a directory and make the new shards. Returns the exit status."""
    store = Store(directory)
    plan = read_plan(store)
    grown = upkeep.grow_plan(plan, options.per_class, options.per_image, options.count)
    require_writable(store)
    spec = planned_spec(plan.load, options.planned, options.device)
    threads = options.engine_options.threads or default_threads(plan)
    spec, generator, _ = open_for_workers(
        spec, options.engine_options, _check_source, grown, directory, threads
    )
    if grown != plan:
        upkeep.replace_plan(store, plan, grown)
    job = prepare_job(directory, grown, source=spec, threads=threads)
    return generation.run(job, options.engine_options, generator, None)


def _check_source(spec: SourceSpec, generator: Generator, plan: Plan, directory: str, threads: int) -> None:
    """Raise UserError if the source is not the one of the plan, before anything is written."""
    Worker(Job(plan, directory, spec, threads), generator).close()


def gather(directories: Sequence[str], out: str | None) -> None:
    """Collect the parts of one plan in `out`, or finish the one directory that is given."""
    if out is None and len(directories) > 1:
        raise UserError("several directories are given; say with --out where their shards go")
    sources = [Store(directory) for directory in directories]
    destination = Store(directories[0] if out is None else out)
    plan = read_plan(sources[0])
    progress = Progress(plan.samples, "samples", label="gather")
    copied = upkeep.gather(sources, destination, progress.advance)
    progress.close()
    print(
        f"{plan.samples} images in {plan.num_shards} shards: {destination} ({copied} of the images were copied or linked)"
    )


def verify(directory: str, options: VerifyOptions) -> int:
    """Check a directory, print what is wrong with it and, if asked to, queue its bad shards. Returns the exit status."""
    store = Store(directory)
    plan = read_plan(store)
    progress = Progress(plan.samples, "samples", label="verify")
    problems = upkeep.verify_directory(store, plan, progress.advance)
    progress.close()
    regenerated = 0
    if options.regenerate:
        spec = planned_spec(plan.load, options.planned, options.device)
        regenerated = _regenerate(store, plan, spec, options.regenerate, options.seed, problems)
    for text in problems.general:
        print(printable(f"BAD {text}"))
    for shard, texts in sorted(problems.shards.items()):
        print(printable(f"BAD shard {shard}: {'; '.join(texts)}"))
    if missing := problems.missing:
        print(
            f"BAD {len(missing)} of {plan.num_shards} shards are not made yet: {shortened(missing, _MOST_NAMED)}; if this is a part, "
            f"make the other parts and finish with ppgen gather, else repeat the ppgen command that made {directory}"
        )
    if not problems.ok:
        bad = sorted(problems.shards)
        print(f"{directory}: {len(bad)} of {plan.num_shards} shards are bad: {bad}")
        if options.repair:
            queued = upkeep.requeue_shards(store, plan, problems)
            print(f"{queued}; repeat the ppgen command that made {directory}")
        return EXIT_FAILED
    print(
        f"{directory}: {plan.num_shards} shards, {problems.checked} samples, all as planned; {regenerated} sampled again, the same"
    )
    return 0


def _regenerate(
    store: Store, plan: Plan, spec: SourceSpec, count: int, seed: int, problems: upkeep.Problems
) -> int:
    """Sample some images again and add those that differ to `problems`. Returns how many were compared."""
    worker = Worker(Job(plan, store.root, spec, default_threads(plan)))
    compared = upkeep.regenerate_samples(worker, store, count, seed)
    worker.close()
    for shard, texts in compared.shards.items():
        problems.shards[shard].extend(texts)
    for reason, samples in compared.skipped.items():
        print(
            f"{samples} of {count} samples were not sampled again, because this machine differs from the one that made them, and so may "
            f"the last bits of their pixels: {reason}"
        )
    return compared.checked


def status(directory: str, price_per_hour: float | None, *, as_json: bool, watch: bool) -> None:
    """Print the status of a directory; with `watch` every few seconds until no run is active, on a terminal in place."""
    store = Store(directory)
    while True:
        current = read_status(store, price_per_hour)
        text = json.dumps(asdict(current)) if as_json else render(current)
        if watch and not as_json and sys.stdout.isatty():
            print("\x1b[H\x1b[2J", end="")
        print(text, flush=True)
        if not watch or current.state != "running":
            return
        time.sleep(_STATUS_EVERY_S)


def report(directory: str, options: ReportOptions) -> None:
    """Measure a directory's quality, write it to `options.out` and print the summary."""
    store = Store(options.out or directory)
    require_writable(store)
    findings = assess(directory, options)
    write_report(findings, store)
    for name, value in summary_rows(findings.figures):
        print(f"{name}: {value}")
    for row in findings.figures.get("distances", []):
        print(f"{row['of']} to {row['to']}: Frechet {row['frechet']:.4g}, KID {row['kid']:.4g}")
    for note in findings.figures["notes"]:
        print(f"note: {note}")
    print(f"{store.path('report.html')} and {QUALITY} beside it")


def push(directory: str, url: str, *, public: bool, may_redistribute: Sequence[str]) -> None:
    """Copy a finished directory to the hub or an object store."""
    if "://" not in url:
        raise UserError(f"{url} is no URL; give hf://datasets/OWNER/NAME or s3://BUCKET/NAME")
    source = Store(directory)
    plan = read_plan(source)
    exchange.require_redistribution(plan, tuple(may_redistribute))
    progress = Progress(plan.samples, "samples", label="push")
    if url.startswith(_HUB):
        pushed = exchange.push_to_hub(source, url, public=public, on_shard=progress.advance)
    else:
        ShardSet.open(directory)  # refuses an unfinished directory
        pushed = upkeep.gather([source], Store(url), progress.advance)
    progress.close()
    print(f"{pushed} samples pushed, {plan.samples - pushed} were there: {url}")


def pull(url: str, out: str) -> None:
    """Copy a finished directory from the hub or an object store."""
    if url.startswith(_HUB) and not url.startswith(f"{_HUB}datasets/"):
        url = f"{_HUB}datasets/{url.removeprefix(_HUB)}"
    ShardSet.open(url)  # refuses an unfinished directory
    source = Store(url)
    plan = read_plan(source)
    progress = Progress(plan.samples, "samples", label="pull")
    pulled = upkeep.gather([source], Store(out), progress.advance)
    progress.close()
    print(f"{pulled} samples pulled, {plan.samples - pulled} were there: {out}")


def show_targets() -> int:
    """Print every target that has a name. Returns the exit status, 0."""
    states = list_targets()
    lines = [("name", "classes", "train", "test", "where", "licence", "what it is", "split")]
    for state in states:
        target = state.target
        counts = (f"{target.classes:,}", f"{target.train:,}", f"{target.test:,}")
        lines.append((target.name, *counts, state.where, target.licence, target.title, target.split))
    print_table(lines)
    print("\n".join(f"{state.target.name}: {state.steps}" for state in states if state.steps))
    return 0


def inspect_targets(specs: Sequence[str]) -> int:
    """Print what each target contains. Returns the exit status: 1 if an image cannot be read, else 0.

    Raises:
        UserError: a target that cannot be opened.
    """
    failed = False
    for target in [load_target(spec) for spec in specs]:
        contents = inspect_target(target)
        print("\n".join(printable(line) for line in contents.describe().splitlines()))
        failed |= bool(contents.unreadable)
    return EXIT_FAILED if failed else 0
