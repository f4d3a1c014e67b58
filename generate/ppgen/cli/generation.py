"""What the commands that make shards do once their options are read: source, plan, job; then a run, or an estimate of one."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from ppcore.console import parse_settings
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
from ppgen.options import EngineOptions, EstimateOptions, PseudoOptions, SynthOptions
from ppgen.plan import (
    Conditions,
    Estimate,
    Plan,
    PseudoRequest,
    Rate,
    Settings,
    SynthRequest,
    adopt_choices,
    build_pseudo_plan,
    build_synth_plan,
)
from ppgen.shards import Job, calibrate, pending_shards, read_plan
from ppgen.sources import Generator, SourceSpec, make_deterministic, read_mapping, require_licence, source_kit

_PER_IMAGE = 10  # samples for every target image where no number is given


@dataclass(frozen=True)
class PreparedJob:
    """A job that only needs to be run, and what was loaded to prepare it.

    Attributes:
        generator: of the source of the job, if this process has opened it; a single worker in this process uses it.
        conditions: pseudo: the table to write into a new directory.
    """

    job: Job
    generator: Generator | None
    conditions: Conditions | None
    options: EngineOptions


def prepare(options: SynthOptions | PseudoOptions) -> PreparedJob:
    """Open the source and settle the plan; writes nothing.

    Raises:
        UserError: the request makes no sense, its source or target cannot be had, or the directory is not its own.
    """
    shards = options.shards
    settings = Settings(
        seed=shards.seed,
        batch_size=shards.batch_size,
        samples_per_shard=shards.samples_per_shard,
        image_format=shards.image_format,
        score=shards.score,
        drop_below=shards.drop_below,
        reproducible=shards.reproducible,
    )
    if settings.reproducible:
        make_deterministic()
    request: SynthRequest | PseudoRequest
    if isinstance(options, SynthOptions):
        request = SynthRequest(options.classes, options.per_class)
    else:
        request = _pseudo_request(options)
    spec, allowed = _describe_source(options), options.source_options.allow_licence or []
    spec, generator, (plan, conditions) = open_for_workers(
        spec, options.engine_options, _build, request, settings, allowed
    )
    threads = options.engine_options.threads or default_threads(plan)
    out = shards.out or default_out(plan)
    if Store(out).exists(PLAN):
        plan = adopt_choices(read_plan(Store(out)), plan, _typed(options))
    job = prepare_job(out, plan, source=spec, threads=threads)
    return PreparedJob(job, generator, conditions, options.engine_options)


def _typed(options: SynthOptions | PseudoOptions) -> set[str]:
    """The sizes that the user gave; the others are chosen."""
    return {n for n in ("batch_size", "samples_per_shard") if getattr(options.shards, n) is not None}


def run(prepared: PreparedJob) -> int:
    """Make the job's shards. Returns the command's exit status: 0, or 1 when shards failed."""
    job, plan = prepared.job, prepared.job.plan
    options = prepared.options
    workers = describe_workers(options, plan, job.source.device)
    watchers: list[OnEvent] = [EventLog(Store(job.out))]
    if options.metrics_file is not None:
        watchers.append(MetricsFile(options.metrics_file, job.out))
    if options.engine == "ray":
        watchers.append(RayMetrics(job.out))
    print(f"{plan.samples} images in {plan.num_shards} shards, {workers} -> {job.out}", file=sys.stderr)
    return run_job(job, options, prepared.conditions, watchers, prepared.generator)


def estimate(prepared: PreparedJob, options: EstimateOptions) -> Estimate:
    """What running the job would cost; writes nothing."""
    job, plan = prepared.job, prepared.job.plan
    return Estimate(
        plan,
        job.out,
        left=sum(plan.locate(shard)[2] for shard in pending_shards(Store(job.out), plan)),
        workers=prepared.options.workers or default_workers(plan, job.source.device),
        rate=_measure_rate(prepared) if options.calibrate else None,
        price_per_hour=options.price_per_hour,
    )


def _pseudo_request(options: PseudoOptions) -> PseudoRequest:
    unsaid = options.per_image is None and options.count is None
    return PseudoRequest(
        target=options.target,
        labels_per_class=options.labels_per_class,
        label_seed=options.shards.seed if options.label_seed is None else options.label_seed,
        per_image=_PER_IMAGE if unsaid else options.per_image,
        count=options.count,
        mode=options.condition,
        temperature=options.temperature,
        top_k=options.top_k,
    )


def _measure_rate(prepared: PreparedJob) -> Rate:
    """How fast one worker is, measured where the source was opened for the plan."""
    job, conditions = prepared.job, prepared.conditions
    if prepared.generator is not None:
        return calibrate(job, prepared.generator, conditions)
    return open_for_workers(job.source, prepared.options, _calibrate, job, conditions)[2]


def _calibrate(_: SourceSpec, generator: Generator, job: Job, conditions: Conditions | None) -> Rate:
    return calibrate(job, generator, conditions)


def _build(
    spec: SourceSpec,
    generator: Generator,
    request: SynthRequest | PseudoRequest,
    settings: Settings,
    allowed: list[str],
) -> tuple[Plan, Conditions | None]:
    """Build the plan with an open source; refuse a licence that is not allowed."""
    require_licence(spec.source, generator.licence, allowed)
    if settings.reproducible:
        make_deterministic()  # the process may be another one than the driver's
    if isinstance(request, SynthRequest):
        return build_synth_plan(generator, spec, request, settings), None
    return build_pseudo_plan(generator, spec, request, settings)


def _describe_source(options: SynthOptions | PseudoOptions) -> SourceSpec:
    """How to open the source; refuses a kit whose licence is not allowed before any download."""
    name, chosen = options.source, options.source_options
    allowed = chosen.allow_licence or []
    kit = source_kit(name)
    if kit is not None:
        require_licence(name, kit.licence, allowed)
    return SourceSpec(
        name,
        device=options.device,
        dtype=options.dtype,
        sampling=parse_settings(chosen.sampling or [], "steps=20"),
        revision=chosen.revision,
        trust_remote_code=chosen.trust_remote_code,
        trust_code=chosen.trust_code,
        classifier=chosen.classifier,
        class_map=None if chosen.class_map is None else read_mapping(chosen.class_map),
    )
