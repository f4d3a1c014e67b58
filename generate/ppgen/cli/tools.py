"""The commands of `ppgen` around a run: plan, extend, merge, verify, report."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from ppcore.errors import UserError
from ppgen.cli.launch import DRY_RUN, DryRun, Place, require_sound, run
from ppgen.cli.options import Address, ClassifierName, Cpus, Device, EngineName, Gpus, Threads, Workers

tools = typer.Typer()
planner = typer.Typer(
    help="What a synth or pseudo command would make and cost. Writes nothing.", no_args_is_help=True
)

Directory = Annotated[str, typer.Argument(help="Shard directory, path or URL.")]
Moved = Annotated[str | None, typer.Option(help="Where the source is now, if it has moved.")]
Price = Annotated[float | None, typer.Option(help="Price of one worker (one GPU) for an hour.")]
Calibrate = Annotated[bool, typer.Option(help="Measure the rate on a few batches.")]


def add_plans(*commands: Callable[..., None]) -> None:
    """Give each command a twin below `ppgen plan`: the same options and two more, and nothing written."""
    for command in commands:
        planner.command(command.__name__)(_dry(command))


def _dry(command: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(command)
    def dry(calibrate: bool, price_per_hour: float | None, **options: Any) -> None:
        if price_per_hour is not None and not 0 <= price_per_hour < float("inf"):
            raise UserError(f"--price-per-hour is {price_per_hour}; give a number from zero up")
        token = DRY_RUN.set(DryRun(calibrate, price_per_hour))
        try:
            command(**options)
        finally:
            DRY_RUN.reset(token)

    # typer reads its options off the signature
    own = inspect.signature(command, eval_str=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    more = [
        inspect.Parameter("calibrate", keyword, default=True, annotation=Calibrate),
        inspect.Parameter("price_per_hour", keyword, default=None, annotation=Price),
    ]
    parameters = [*own.parameters.values(), *more]
    dry.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    dry.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return dry


@tools.command()
def extend(
    directory: Directory,
    per_class: Annotated[int | None, typer.Option(help="Synth: new total of every class.")] = None,
    per_image: Annotated[int | None, typer.Option(help="Pseudo: new total for every target image.")] = None,
    count: Annotated[int | None, typer.Option(help="Pseudo: new total of samples.")] = None,
    source: Moved = None,
    device: Device = "auto",
    workers: Workers = None,
    threads: Threads = None,
    engine: EngineName = "inline",
    cpus_per_worker: Cpus = None,
    gpus_per_worker: Gpus = None,
    address: Address = None,
) -> None:
    """Raise the totals of a directory; no committed sample is touched. Interrupted, the same command goes on."""
    numbers = {"--per-class": per_class, "--per-image": per_image, "--count": count}
    place = Place(engine, workers, threads, cpus_per_worker, gpus_per_worker, address)
    require_sound(place, numbers)
    from ppcore.storage import Store
    from ppgen.engines import default_threads
    from ppgen.generators import open_generator
    from ppgen.shards import Job, Worker, read_plan, require_writable
    from ppgen.sources import SourceSpec
    from ppgen.upkeep import grow_plan, replace_plan

    store = Store(directory)
    plan = read_plan(store)
    grown = grow_plan(plan, per_class, per_image, count)
    require_writable(store)
    spec = SourceSpec.from_hint(plan.load, device, source)
    generator = open_generator(spec)
    if grown != plan:
        # A worker refuses a generator other than the plan's; before anything is written.
        Worker(Job(grown, directory, spec, threads or default_threads(plan)), generator).close()
        replace_plan(store, plan, grown)
    run(grown, None, spec, generator, directory, place)


@tools.command()
def merge(
    directories: Annotated[list[str], typer.Argument(help="Finished directories of the same source.")],
    out: Annotated[str, typer.Option(help="New shard directory.")],
) -> None:
    """Several finished directories as one. Keys are numbered through; the first directory's tars are hard links."""
    from ppcore.console import Progress
    from ppcore.shards import ShardSet
    from ppcore.storage import Store
    from ppgen.shards import read_plan
    from ppgen.upkeep import merge_directories

    total = sum(read_plan(Store(directory)).samples for directory in directories)
    progress = Progress(total, "samples", label="merge")
    repeated = merge_directories(directories, out, progress.advance)
    progress.close()
    merged = ShardSet.open(out)
    print(f"{merged.samples} images of {len(directories)} directories in {len(merged.shards)} shards: {out}")
    if repeated:
        print(
            f"{repeated} of them repeat another image byte for byte; directories to be merged need different seeds"
        )


@tools.command()
def verify(
    directory: Directory,
    regenerate: Annotated[int, typer.Option(help="Sample so many random images again and compare them.")] = 0,
    repair: Annotated[bool, typer.Option("--repair", help="Queue bad shards to be made again.")] = False,
    seed: Annotated[int, typer.Option(help="Chooses the images to sample again.")] = 0,
    source: Moved = None,
    device: Device = "auto",
) -> None:
    """Check a shard directory: plan, tars, parquet files, checksums, labels. Exit status 1 when something is wrong."""
    if regenerate < 0:
        raise UserError(f"--regenerate is {regenerate}; give 0 or more")
    from ppcore.console import Progress
    from ppcore.storage import Store
    from ppgen.plan import MergedPlan
    from ppgen.shards import read_any_plan
    from ppgen.upkeep import verify_directory

    store = Store(directory)
    plan = read_any_plan(store)
    if isinstance(plan, MergedPlan) and regenerate:
        raise UserError(f"{directory} is merged; verify the directories it was merged from with --regenerate")
    progress = Progress(plan.samples, "samples", label="verify")
    report = verify_directory(store, plan, progress.advance)
    progress.close()
    again = 0
    if regenerate and not isinstance(plan, MergedPlan):
        from ppgen.engines import default_threads
        from ppgen.shards import Job, Worker
        from ppgen.sources import SourceSpec
        from ppgen.upkeep import regenerate_samples

        spec = SourceSpec.from_hint(plan.load, device, source)
        worker = Worker(Job(plan, directory, spec, default_threads(plan)))
        found = regenerate_samples(worker, store, regenerate, seed)
        worker.close()
        again = found.checked
        for shard, problems in found.shards.items():
            report.shards[shard].extend(problems)
    for problem in report.general:
        print(f"BAD {problem}")
    for shard, problems in sorted(report.shards.items()):
        print(f"BAD shard {shard}: {'; '.join(problems)}")
    if not report.ok:
        bad = sorted(report.shards)
        print(f"{directory}: {len(bad)} of {plan.num_shards} shards are bad: {bad}")
        if repair:
            from ppgen.upkeep import requeue_shards

            print(f"{requeue_shards(store, plan, report)}; repeat the ppgen command that made {directory}")
        raise typer.Exit(1)
    print(
        f"{directory}: {plan.num_shards} shards, {report.checked} samples, all as planned; {again} sampled again, the same"
    )


@tools.command()
def report(
    directory: Directory,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Shard directory or target to measure distances to [default: a pseudo set's target]."
        ),
    ] = None,
    uniform: Annotated[
        str | None, typer.Option(help="Synth directory, or pseudo of uniform conditions, to set beside.")
    ] = None,
    classifier: ClassifierName = None,
    source: Moved = None,
    samples: Annotated[int, typer.Option(help="Most images to look at in each set.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Chooses them.")] = 0,
    device: Device = "auto",
    out: Annotated[str | None, typer.Option(help="Where to write [default: the directory itself].")] = None,
) -> None:
    """Measure a directory's quality: quality.json and report.html. Needs no download."""
    from ppcore.storage import Store
    from ppgen.plan import require_positive
    from ppgen.quality import QUALITY, ReportRequest, assess, summary_rows, write_report
    from ppgen.shards import require_writable

    require_positive("--samples", samples)
    store = Store(out or directory)
    require_writable(store)
    findings = assess(ReportRequest(directory, reference, uniform, classifier, source, samples, seed, device))
    write_report(findings, store)
    for name, value in summary_rows(findings.figures):
        print(f"{name}: {value}")
    for row in findings.figures.get("distances", []):
        print(f"{row['of']} to {row['to']}: Frechet {row['frechet']:.4g}, KID {row['kid']:.4g}")
    for note in findings.figures["notes"]:
        print(f"note: {note}")
    print(f"{store.path('report.html')} and {QUALITY} beside it")
