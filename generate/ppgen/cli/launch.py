"""From the options of a command to a loaded source and a run of its plan."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from ppcore.console import parse_settings
from ppcore.errors import UserError

if TYPE_CHECKING:
    from ppgen.plan import Conditions, Plan
    from ppgen.sources import SourceSpec


ENGINES = ("inline", "ray")


@dataclass(frozen=True)
class Place:
    """Where shards are made: `--engine` and the options that belong to it."""

    engine: str = "inline"
    workers: int | None = None
    threads: int | None = None
    cpus_per_worker: float | None = None
    gpus_per_worker: float | None = None
    address: str | None = None


@dataclass(frozen=True)
class DryRun:
    """What `ppgen plan` asks for instead of a run."""

    calibrate: bool = True
    price_per_hour: float | None = None


DRY_RUN: ContextVar[DryRun | None] = ContextVar("DRY_RUN", default=None)
"""Set while a command runs below `ppgen plan`."""


def require_sound(place: Place, numbers: dict[str, int | None] | None = None) -> None:
    """Refuse what needs no generator to be seen as wrong, before one is loaded."""
    if place.engine not in ENGINES:
        raise UserError(f"unknown engine {place.engine!r}; expected {' or '.join(ENGINES)}")
    of_ray = {
        "--cpus-per-worker": place.cpus_per_worker,
        "--gpus-per-worker": place.gpus_per_worker,
        "--address": place.address,
    }
    for name, value in of_ray.items():
        if value is not None and place.engine != "ray":
            raise UserError(f"{name} is an option of Ray; add --engine ray or leave it out")
    from ppgen.plan import require_positive

    for name, number in {"--workers": place.workers, "--threads": place.threads, **(numbers or {})}.items():
        if number is not None:
            require_positive(name, number)


def open_source(
    source: str,
    device: str,
    dtype: str | None,
    sampling: list[str] | None,
    revision: str | None,
    trust: bool,
    classifier: str | None,
    class_map: str | None = None,
    allowed_licences: list[str] | None = None,
) -> tuple[SourceSpec, Any]:
    """The source's spec and its loaded generator; a licence that is not allowed is refused, a kit's before any download."""
    from ppgen.generators import open_generator
    from ppgen.sources import SourceSpec, read_mapping, require_licence, source_kit

    allowed = allowed_licences or []
    kit = source_kit(source)
    if kit is not None:
        require_licence(source, kit.licence, allowed)
    mapping = read_mapping(class_map) if class_map is not None else None
    spec = SourceSpec(
        source,
        device,
        dtype,
        parse_settings(sampling or [], "steps=20"),
        revision,
        trust,
        classifier,
        mapping,
    )
    generator = open_generator(spec)
    require_licence(source, generator.licence, allowed)
    return spec, generator


def run(
    plan: Plan,
    conditions: Conditions | None,
    spec: SourceSpec,
    generator: Any,
    out: str | None,
    place: Place,
) -> None:
    """Make the plan's shards, or say what that would cost where :data:`DRY_RUN` is set.

    Raises:
        typer.Exit: shards failed.
    """
    from ppgen.engines import default_out, default_threads, default_workers, make_engine, prepare_job, run_job

    job = prepare_job(
        out or default_out(plan),
        plan,
        source=spec,
        threads=place.threads if place.threads is not None else default_threads(plan),
    )
    dry = DRY_RUN.get()
    if dry is not None:
        from ppgen.shards import calibrate, describe

        rate = calibrate(job, generator, conditions) if dry.calibrate else None
        print(describe(job, place.workers or default_workers(plan, spec.device), rate, dry.price_per_hour))
        return
    engine = make_engine(
        place.engine,
        plan,
        spec.device,
        generator,
        workers=place.workers,
        cpus_per_worker=place.cpus_per_worker,
        gpus_per_worker=place.gpus_per_worker,
        address=place.address,
    )
    print(
        f"{plan.samples} images in {plan.num_shards} shards, {engine.workers} -> {job.out}", file=sys.stderr
    )
    status = run_job(job, engine, conditions)
    if status:
        raise typer.Exit(status)
