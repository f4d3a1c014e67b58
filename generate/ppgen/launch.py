"""From the options of a command to a loaded source and a run of its plan."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer

from ppcore.errors import UserError

if TYPE_CHECKING:
    from ppgen.conditions import Conditions
    from ppgen.plan import Plan
    from ppgen.source import SourceSpec


def require_sound(engine: str, numbers: dict[str, int | None]) -> None:
    """Refuse what needs no generator to be seen as wrong, before one is loaded."""
    if engine != "inline":
        raise UserError(f"unknown engine {engine!r}; expected inline")
    from ppgen.request import require_positive

    for name, value in numbers.items():
        if value is not None:
            require_positive(name, value)


def open_source(
    source: str,
    device: str,
    dtype: str | None,
    sampling: list[str] | None,
    revision: str | None,
    trust: bool,
    classifier: str | None,
) -> tuple[SourceSpec, Any]:
    """The source's spec and its loaded generator."""
    from ppgen.source import SourceSpec, open_generator

    spec = SourceSpec(source, device, dtype, parse_settings(sampling or []), revision, trust, classifier)
    return spec, open_generator(spec)


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """`["steps=20", "solver=euler"]` -> `{"steps": 20, "solver": "euler"}`; values are YAML. Raises UserError."""
    import yaml

    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UserError(f"--set {pair!r} is not NAME=VALUE; write for example --set steps=20")
        try:
            settings[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(
                f"--set {pair!r} has a value that cannot be read ({error}); write for example --set steps=20"
            ) from error
    return settings


def run(
    plan: Plan,
    conditions: Conditions | None,
    spec: SourceSpec,
    generator: Any,
    out: str | None,
    workers: int | None,
    threads: int | None,
) -> None:
    from ppgen.engines.inline import InlineEngine
    from ppgen.run import default_out, default_threads, default_workers, prepare, run_plan

    job = prepare(
        out or default_out(plan),
        plan,
        source=spec,
        threads=threads if threads is not None else default_threads(plan),
    )
    count = workers if workers is not None else default_workers(plan, spec.device)
    print(
        f"{plan.samples} images in {plan.num_shards} shards, {count} worker{'s' if count > 1 else ''} -> {job.out}",
        file=sys.stderr,
    )
    status = run_plan(job, InlineEngine(count, generator if count == 1 else None), conditions)
    if status:
        raise typer.Exit(status)
