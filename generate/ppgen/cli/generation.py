"""What `ppgen synth`, `pseudo` and `plan` do: open the source, make the plan, then make the shards or estimate their cost."""

from __future__ import annotations

import sys

import numpy as np
import torch

from ppcore.console import parse_settings
from ppcore.kits import KITS, get_kit
from ppcore.page import labelled_sheet
from ppcore.seeds import derive, sample_seed
from ppcore.shards import PLAN
from ppcore.storage import Store
from ppgen.engines import (
    OnEvent,
    default_out,
    default_threads,
    default_workers,
    describe_workers,
    open_for_workers,
    prepare_job,
    run_job,
)
from ppgen.journal import EventLog, MetricsFile, RayMetrics
from ppgen.options import PRODUCT_SOURCE, EngineOptions, EstimateOptions, PseudoOptions, SynthOptions
from ppgen.plan import Conditions, Estimate, Plan, Rate, adopt_choices, build_pseudo_plan, build_synth_plan
from ppgen.shards import Job, calibrate, create_plan, pending_shards, read_plan, reconcile_plan
from ppgen.sources import (
    COSTS,
    Generator,
    ListedGenerator,
    SourceSpec,
    has_weights,
    make_deterministic,
    read_mapping,
    require_licence,
    sample_checked,
    source_kit,
)


def generate(options: SynthOptions | PseudoOptions) -> int:
    """Make the shards of a plan. Returns the exit status: 0, or 1 if shards failed. Raises UserError as :func:`prepare` does."""
    job, generator, conditions = prepare(options, claim=options.shards.part is not None)
    return run(job, options.engine_options, generator, conditions)


_COLUMNS = 4  # samples of a class in a preview


def preview(options: SynthOptions, classes: int) -> str:
    """Draw the first samples of `classes` classes, spread over those of the plan, on one picture. Returns its path.

    Raises:
        UserError: an option is wrong, or the source cannot be opened.
    """
    spec = _describe_source(options)
    _, _, (rows, out) = open_for_workers(spec, options.engine_options, _draw_preview, options, classes)
    folder, _, name = out.rstrip("/").rpartition("/")
    store = Store(folder or ".")
    store.write_atomic(f"{name}-preview.png", labelled_sheet(rows))
    return store.path(f"{name}-preview.png")


def _draw_preview(
    spec: SourceSpec, generator: Generator, options: SynthOptions, classes: int
) -> tuple[list[tuple[str, np.ndarray]], str]:
    """(name and samples, uint8 (4, H, W, C), of every class; the directory of the plan)."""
    plan, _ = _build(spec, generator, options)
    chosen = np.unique(
        np.linspace(0, len(plan.classes) - 1, min(classes, len(plan.classes))).round().astype(int)
    )
    rows = []
    for number in chosen.tolist():
        label = plan.classes[number]
        condition = torch.zeros(_COLUMNS, generator.num_classes)
        condition[:, label] = 1.0
        seeds = torch.tensor(
            [sample_seed(derive(plan.seed, "preview"), _COLUMNS * number + n) for n in range(_COLUMNS)]
        )
        images, _bad = sample_checked(generator, condition, seeds)
        rows.append((generator.class_names[label], images.permute(0, 2, 3, 1).cpu().numpy()))
    return rows, options.shards.out or default_out(plan)


def prepare(
    options: SynthOptions | PseudoOptions, *, claim: bool = False, listed: Generator | None = None
) -> tuple[Job, Generator | None, Conditions | None]:
    """Open the source and make the plan.

    Args:
        claim: write plan.json into a new directory at once. Of several parts that start at the same time, the first one decides
            the automatic choices, such as the batch size. Otherwise nothing is written.
        listed: used for the plan in place of the source, which is then not opened.

    Returns:
        The job; the generator if this process has opened it; the condition table of a pseudo plan.

    Raises:
        UserError: an option is wrong, the source or the target cannot be opened, or the directory holds something else.
    """
    shards = options.shards
    if shards.reproducible:
        make_deterministic()
    spec = _describe_source(options)
    if listed is None:
        spec, generator, (plan, conditions) = open_for_workers(spec, options.engine_options, _build, options)
    else:
        generator, (plan, conditions) = None, _build(spec, listed, options)
    threads = options.engine_options.threads or default_threads(plan)
    out = shards.out or default_out(plan)
    store = Store(out)
    if claim and not store.exists(PLAN):
        create_plan(store, reconcile_plan(store, plan), adopt=True)
    if store.exists(PLAN):
        plan = adopt_choices(read_plan(store), plan, _chosen(options))
    job = prepare_job(out, plan, source=spec, threads=threads, part=shards.part_numbers())
    return job, generator, conditions


def _chosen(options: SynthOptions | PseudoOptions) -> set[str]:
    """The sizes that the user gave; ppgen chooses the others."""
    return {n for n in ("batch_size", "samples_per_shard") if getattr(options.shards, n) is not None}


def run(job: Job, options: EngineOptions, generator: Generator | None, conditions: Conditions | None) -> int:
    """Make the shards of a job. Returns the exit status: 0, or 1 if shards failed.

    Args:
        generator: of the job's source, if this process has opened it; a single worker in this process uses it.
        conditions: of a pseudo plan: the table to write into a new directory.
    """
    plan = job.plan
    workers = describe_workers(options, plan, job.source.device)
    watchers: list[OnEvent] = [EventLog(Store(job.out))]
    if options.metrics_file is not None:
        watchers.append(MetricsFile(options.metrics_file, job.out))
    if options.engine == "ray":
        watchers.append(RayMetrics(job.out))
    print(f"{plan.samples} images in {plan.num_shards} shards, {workers} -> {job.out}", file=sys.stderr)
    return run_job(job, options, conditions, watchers, generator)


def estimate(options: SynthOptions | PseudoOptions, asked: EstimateOptions) -> Estimate:
    """What :func:`generate` would cost; writes nothing.

    Without the weights of a kit on this machine, the plan follows from the catalogue, and nothing is downloaded or measured.
    """
    kit = source_kit(options.source)
    listed: Generator | None = None
    if isinstance(options, SynthOptions) and kit is not None and kit.name in COSTS and not has_weights(kit):
        listed = ListedGenerator(kit, parse_settings(options.source_options.sampler or [], "steps=20"))
    job, generator, conditions = prepare(options, listed=listed)
    plan, rate = job.plan, None
    if asked.calibrate and generator is not None:
        rate = calibrate(job, generator, conditions)
    elif asked.calibrate and listed is None:
        rate = open_for_workers(job.source, options.engine_options, _calibrate, job, conditions)[2]
    return Estimate(
        plan,
        job.out,
        left=sum(plan.locate(shard)[2] for shard in job.own(pending_shards(Store(job.out), plan))),
        workers=options.engine_options.workers or default_workers(plan, job.source.device),
        rate=rate,
        price_per_hour=asked.price_per_hour,
        gflop=COSTS[kit.name].image if kit is not None and kit.name in COSTS else None,
        listed=listed is not None,
    )


def _calibrate(_: SourceSpec, generator: Generator, job: Job, conditions: Conditions | None) -> Rate:
    return calibrate(job, generator, conditions)


def _build(
    spec: SourceSpec, generator: Generator, options: SynthOptions | PseudoOptions
) -> tuple[Plan, Conditions | None]:
    """Build the plan with an open source; refuse a licence that is not allowed."""
    require_licence(spec.source, generator.licence, options.source_options.allow_licence or [])
    if options.shards.reproducible:
        make_deterministic()  # this may be another process than the driver
    if isinstance(options, SynthOptions):
        return build_synth_plan(generator, spec, options), None
    return build_pseudo_plan(generator, spec, options)


def _describe_source(options: SynthOptions | PseudoOptions) -> SourceSpec:
    """How to open the source. A kit whose licence is not allowed is refused before any download."""
    name, chosen = options.source, options.source_options
    kit = source_kit(name)
    if kit is not None:
        require_licence(name, kit.licence, chosen.allow_licence or [])
        if not kit.commercial and name in KITS:
            print(
                f"note: {name} is under {kit.licence}, which forbids products; {PRODUCT_SOURCE} ({get_kit(PRODUCT_SOURCE).licence}) may be "
                "used for them",
                file=sys.stderr,
            )
    return SourceSpec(
        name,
        device=options.device,
        dtype=options.dtype,
        sampling=parse_settings(chosen.sampler or [], "steps=20"),
        revision=chosen.revision,
        trust_remote_code=chosen.trust_remote_code,
        trust_code=chosen.trust_code,
        classifier=chosen.classifier,
        class_map=None if chosen.class_map is None else read_mapping(chosen.class_map),
    )
