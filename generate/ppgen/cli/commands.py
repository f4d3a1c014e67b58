"""The command `ppgen`."""

from __future__ import annotations

from typing import Annotated

import typer

from ppcore.console import run_app
from ppgen.cli.launch import Place, open_source, require_sound, run
from ppgen.cli.options import (
    DEFAULT_SOURCE,
    Address,
    AllowLicence,
    Batch,
    ClassifierName,
    ClassMap,
    Cpus,
    Device,
    DropBelow,
    Dtype,
    EngineName,
    Format,
    Gpus,
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
from ppgen.cli.tools import add_plans, planner, tools

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
    cpus_per_worker: Cpus = None,
    gpus_per_worker: Gpus = None,
    address: Address = None,
    score: Score = False,
    drop_below: DropBelow = None,
    classifier: ClassifierName = None,
    class_map: ClassMap = None,
    sampling: Sampling = None,
    revision: Revision = None,
    trust_remote_code: Trust = False,
    allow_licence: AllowLicence = None,
) -> None:
    """Synthetic images of source classes: the data of pseudo pre-training."""
    place = Place(engine, workers, threads, cpus_per_worker, gpus_per_worker, address)
    require_sound(place, {"--per-class": per_class})
    from ppgen.plan import Settings, build_synth_plan

    spec, generator = open_source(
        source, device, dtype, sampling, revision, trust_remote_code, classifier, class_map, allow_licence
    )
    settings = Settings(seed, batch_size, samples_per_shard, image_format, score, drop_below)
    plan = build_synth_plan(generator, spec, classes, per_class, settings)
    run(plan, None, spec, generator, out, place)


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
    cpus_per_worker: Cpus = None,
    gpus_per_worker: Gpus = None,
    address: Address = None,
    score: Score = False,
    drop_below: DropBelow = None,
    classifier: ClassifierName = None,
    class_map: ClassMap = None,
    sampling: Sampling = None,
    revision: Revision = None,
    trust_remote_code: Trust = False,
    allow_licence: AllowLicence = None,
) -> None:
    """Images conditioned on soft labels of target images: the unlabelled data of P-SSL (10 for every image unless told otherwise)."""
    place = Place(engine, workers, threads, cpus_per_worker, gpus_per_worker, address)
    require_sound(place)
    from ppgen.plan import PseudoRequest, Settings, build_pseudo_plan

    if per_image is None and count is None:
        per_image = 10
    spec, generator = open_source(
        source, device, dtype, sampling, revision, trust_remote_code, classifier, class_map, allow_licence
    )
    settings = Settings(seed, batch_size, samples_per_shard, image_format, score, drop_below)
    chosen = seed if label_seed is None else label_seed
    request = PseudoRequest(target, labels_per_class, chosen, per_image, count, condition, temperature, top_k)
    plan, conditions = build_pseudo_plan(generator, spec, request, settings)
    run(plan, conditions, spec, generator, out, place)


@app.command()
def sources(allow_licence: AllowLicence = None) -> None:
    """List the known kits: size, licence, and what an image costs at the defaults."""
    from ppgen.sources import source_rows

    head = (
        "name",
        "family",
        "pixels",
        "classes",
        "licence",
        "commercial",
        "parameters",
        "GFLOP/image",
        "what it is",
    )
    lines = [head]
    for row in source_rows(tuple(allow_licence or ())):
        size = f"{row.resolution}x{row.resolution}x{row.channels}"
        millions = "?" if row.parameters is None else f"{row.parameters / 1e6:.1f} M"
        work = "?" if row.gflop is None else f"{row.gflop:,.1f}"
        use = "yes" if row.commercial else "no"
        name = f"{row.name} (default)" if row.name == DEFAULT_SOURCE else row.name
        lines.append(
            (name, row.family, size, str(row.classes), row.licence, use, millions, work, row.description)
        )
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


add_plans(synth, pseudo)
app.add_typer(tools)
app.add_typer(planner, name="plan")


def main() -> None:
    """Entry point of the console command."""
    run_app(app)
