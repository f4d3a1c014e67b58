"""The command `ppgen`."""

from __future__ import annotations

from typing import Annotated

import typer

from ppcore.console import run_app
from ppcore.errors import UserError
from ppgen.launch import open_source, require_sound, run
from ppgen.options import (
    DEFAULT_SOURCE,
    Batch,
    ClassifierName,
    Device,
    DropBelow,
    Dtype,
    EngineName,
    Format,
    Out,
    PerShard,
    Revision,
    Sampling,
    Score,
    Seed,
    Source,
    Threads,
    Trust,
    Workers,
)

app = typer.Typer(
    help="Sample a pre-trained conditional generator into shards.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def synth(
    source: Source = DEFAULT_SOURCE,
    classes: Annotated[
        str | None,
        typer.Option(help="N, list, ranges (0-9,20), names or WordNet ids, or @file [default: all]."),
    ] = None,
    per_class: Annotated[int, typer.Option(help="Samples of every class.")] = 1300,
    out: Out = None,
    seed: Seed = 0,
    batch_size: Batch = None,
    samples_per_shard: PerShard = None,
    image_format: Format = "auto",
    device: Device = "auto",
    dtype: Dtype = None,
    workers: Workers = None,
    threads: Threads = None,
    engine: EngineName = "inline",
    score: Score = False,
    drop_below: DropBelow = None,
    classifier: ClassifierName = None,
    sampling: Sampling = None,
    revision: Revision = None,
    trust_remote_code: Trust = False,
) -> None:
    """Synthetic images of source classes: the data of pseudo pre-training."""
    require_sound(engine, {"--workers": workers, "--threads": threads, "--per-class": per_class})
    from ppgen.request import Settings, plan_synth

    spec, generator = open_source(source, device, dtype, sampling, revision, trust_remote_code, classifier)
    settings = Settings(seed, batch_size, samples_per_shard, image_format, score, drop_below)
    plan = plan_synth(generator, spec, classes, per_class, settings)
    run(plan, None, spec, generator, out, workers, threads)


@app.command()
def pseudo(
    target: Annotated[str, typer.Option(help="digits, cars, an image folder, parquet files or tars.")],
    source: Source = DEFAULT_SOURCE,
    labels_per_class: Annotated[
        int | None, typer.Option(help="Use so many training images a class [default: all].")
    ] = None,
    label_seed: Annotated[
        int | None, typer.Option(help="Seed that chooses them, as pptrain's --seed does [default: --seed].")
    ] = None,
    per_image: Annotated[int | None, typer.Option(help="Samples for every target image.")] = None,
    count: Annotated[int | None, typer.Option(help="Samples in all.")] = None,
    condition: Annotated[
        str, typer.Option(help="soft (the soft label), draw (a class from it), uniform (control).")
    ] = "soft",
    temperature: Annotated[float, typer.Option(help="Of the source classifier's softmax.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Keep the k largest probabilities.")] = None,
    out: Out = None,
    seed: Seed = 0,
    batch_size: Batch = None,
    samples_per_shard: PerShard = None,
    image_format: Format = "auto",
    device: Device = "auto",
    dtype: Dtype = None,
    workers: Workers = None,
    threads: Threads = None,
    engine: EngineName = "inline",
    score: Score = False,
    drop_below: DropBelow = None,
    classifier: ClassifierName = None,
    sampling: Sampling = None,
    revision: Revision = None,
    trust_remote_code: Trust = False,
) -> None:
    """Images conditioned on soft labels of target images: the unlabelled data of P-SSL [default: 10 for every image]."""
    require_sound(engine, {"--workers": workers, "--threads": threads})
    from ppgen.request import PseudoRequest, Settings, plan_pseudo

    if per_image is None and count is None:
        per_image = 10
    spec, generator = open_source(source, device, dtype, sampling, revision, trust_remote_code, classifier)
    settings = Settings(seed, batch_size, samples_per_shard, image_format, score, drop_below)
    chosen = seed if label_seed is None else label_seed
    request = PseudoRequest(target, labels_per_class, chosen, per_image, count, condition, temperature, top_k)
    plan, conditions = plan_pseudo(generator, spec, request, settings)
    run(plan, conditions, spec, generator, out, workers, threads)


@app.command()
def verify(
    directory: Annotated[str, typer.Argument(help="Shard directory, path or URL.")],
    regenerate: Annotated[int, typer.Option(help="Sample so many random images again and compare them.")] = 0,
    seed: Annotated[int, typer.Option(help="Chooses the images to sample again.")] = 0,
    source: Annotated[str | None, typer.Option(help="Where the source is now, if it has moved.")] = None,
    device: Device = "auto",
) -> None:
    """Check a shard directory: plan, tars, parquet files, checksums, labels. Exit status 1 when something is wrong."""
    if regenerate < 0:
        raise UserError(f"--regenerate is {regenerate}; give 0 or more")
    from ppcore.console import Progress
    from ppcore.storage import Store
    from ppgen import verify as checks
    from ppgen.directory import read_plan

    store = Store(directory)
    plan = read_plan(store)
    progress = Progress(plan.samples, "samples", label="verify")
    report = checks.verify(store, plan, progress.advance)
    progress.close()
    again = 0
    if regenerate:
        from ppgen.run import default_threads
        from ppgen.source import SourceSpec
        from ppgen.worker import Job, Worker

        spec = SourceSpec.from_hint(plan.load, device, source)
        worker = Worker(Job(plan, directory, spec, default_threads(plan)))
        found = checks.regenerate(worker, store, regenerate, seed)
        worker.close()
        again = found.checked
        for shard, problems in found.shards.items():
            report.shards[shard].extend(problems)
    for problem in report.general:
        print(f"BAD {problem}")
    for shard, problems in sorted(report.shards.items()):
        print(f"BAD shard {shard}: {'; '.join(problems)}")
    if not report.ok:
        print(
            f"{directory}: {len(report.shards)} of {plan.num_shards} shards are bad: {sorted(report.shards)}"
        )
        raise typer.Exit(1)
    print(
        f"{directory}: {plan.num_shards} shards, {report.checked} samples, all as planned; {again} sampled again, the same"
    )


@app.command()
def sources() -> None:
    """List the known kits."""
    from ppcore.kits import list_kits

    for kit in list_kits():
        default = " (default)" if kit.name == DEFAULT_SOURCE else ""
        kind = "commercial use allowed" if kit.commercial else "no commercial use"
        print(
            f"{kit.name}{default}: {kit.description}; {kit.resolution}x{kit.resolution}x{kit.channels}, {kit.licence}, {kind}"
        )


def main() -> None:
    """Entry point of the console command."""
    run_app(app)


if __name__ == "__main__":
    main()
