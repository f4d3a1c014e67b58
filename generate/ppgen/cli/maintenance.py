"""What the commands for a directory that is there do once their options are read, and what they print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ppcore.console import Progress, printable
from ppcore.errors import UserError
from ppcore.shards import ShardSet
from ppcore.storage import Store
from ppgen import upkeep
from ppgen.cli import generation
from ppgen.engines import default_threads, open_for_workers, prepare_job
from ppgen.options import ExtendOptions, PlannedOptions
from ppgen.plan import MergedPlan, Plan
from ppgen.quality import QUALITY, ReportRequest, assess, summary_rows, write_report
from ppgen.shards import Job, Worker, read_any_plan, read_plan, require_writable
from ppgen.sources import Generator, SourceSpec, Typed, planned_spec


@dataclass(frozen=True)
class Regeneration:
    """`verify --regenerate`: how many samples to make again, chosen by a seed, with which source on which device."""

    samples: int
    seed: int
    planned: PlannedOptions
    device: str


def extend(directory: str, options: ExtendOptions) -> int:
    """Raise the totals of a directory. Returns the exit status."""
    store = Store(directory)
    plan = read_plan(store)
    grown = upkeep.grow_plan(plan, options.per_class, options.per_image, options.count)
    require_writable(store)
    spec = _planned(plan, options.planned, options.device)
    threads = options.engine_options.threads or default_threads(plan)
    spec, generator, _ = open_for_workers(
        spec, options.engine_options, _check_source, grown, directory, threads
    )
    if grown != plan:
        upkeep.replace_plan(store, plan, grown)
    job = prepare_job(directory, grown, source=spec, threads=threads)
    return generation.run(generation.PreparedJob(job, generator, None, options.engine_options))


def _check_source(spec: SourceSpec, generator: Generator, plan: Plan, directory: str, threads: int) -> None:
    """Raise UserError if the source is not the one of the plan, before anything is written."""
    Worker(Job(plan, directory, spec, threads), generator).close()


def merge(directories: Sequence[str], out: str) -> None:
    """Several finished directories as one."""
    total = sum(read_plan(Store(directory)).samples for directory in directories)
    progress = Progress(total, "samples", label="merge")
    repeated = upkeep.merge_directories(directories, out, progress.advance)
    progress.close()
    merged = ShardSet.open(out)
    print(f"{merged.samples} images of {len(directories)} directories in {len(merged.shards)} shards: {out}")
    if repeated:
        print(
            f"{repeated} of them repeat another image byte for byte; directories to be merged need different seeds"
        )


def verify(directory: str, again: Regeneration, *, repair: bool) -> int:
    """Check a directory, print what is wrong with it and, if asked to, queue its bad shards. Returns the exit status."""
    store = Store(directory)
    plan = read_any_plan(store)
    if isinstance(plan, MergedPlan) and again.samples:
        raise UserError(f"{directory} is merged; verify the directories it was merged from with --regenerate")
    progress = Progress(plan.samples, "samples", label="verify")
    found = upkeep.verify_directory(store, plan, progress.advance)
    progress.close()
    regenerated = 0
    if again.samples and isinstance(plan, Plan):
        regenerated = _regenerate(store, plan, again, found)
    for problem in found.general:
        print(printable(f"BAD {problem}"))
    for shard, problems in sorted(found.shards.items()):
        print(printable(f"BAD shard {shard}: {'; '.join(problems)}"))
    if not found.ok:
        bad = sorted(found.shards)
        print(f"{directory}: {len(bad)} of {plan.num_shards} shards are bad: {bad}")
        if repair:
            queued = upkeep.requeue_shards(store, plan, found)
            print(f"{queued}; repeat the ppgen command that made {directory}")
        return 1
    print(
        f"{directory}: {plan.num_shards} shards, {found.checked} samples, all as planned; {regenerated} sampled again, the same"
    )
    return 0


def _regenerate(store: Store, plan: Plan, again: Regeneration, found: upkeep.Report) -> int:
    """Sample some images again and add what differs to what was found. Returns how many."""
    spec = _planned(plan, again.planned, again.device)
    worker = Worker(Job(plan, store.root, spec, default_threads(plan)))
    compared = upkeep.regenerate_samples(worker, store, again.samples, again.seed)
    worker.close()
    for shard, problems in compared.shards.items():
        found.shards[shard].extend(problems)
    for reason, samples in compared.skipped.items():
        print(
            f"{samples} of {again.samples} samples were not sampled again, because bytes can be compared only on what made them: {reason}"
        )
    return compared.checked


def _planned(plan: Plan, options: PlannedOptions, device: str) -> SourceSpec:
    """How to load what a plan was made with, as far as the plan may say so and the options say the rest."""
    typed = Typed(options.source, options.classifier, options.trust_code)
    return planned_spec(plan.load, typed, device)


def report(request: ReportRequest, out: str) -> None:
    """Measure a directory's quality, write it to `out` and print the summary."""
    store = Store(out)
    require_writable(store)
    findings = assess(request)
    write_report(findings, store)
    for name, value in summary_rows(findings.figures):
        print(f"{name}: {value}")
    for row in findings.figures.get("distances", []):
        print(f"{row['of']} to {row['to']}: Frechet {row['frechet']:.4g}, KID {row['kid']:.4g}")
    for note in findings.figures["notes"]:
        print(f"note: {note}")
    print(f"{store.path('report.html')} and {QUALITY} beside it")
