"""The options that say who makes the shards, and where."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from ppcore.errors import UserError, require_positive
from ppcore.program import EXPERTS, MACHINES, option

if TYPE_CHECKING:
    from ppgen.engines import Workplace

ENGINES = ("inline", "ray")


def require_counts(options: object, *names: str) -> None:
    """Raise UserError where an option that counts something is given and is not above zero."""
    for name in names:
        number = getattr(options, name)
        if number is not None:
            require_positive(f"--{name.replace('_', '-')}", number)


@dataclass(frozen=True)
class EngineOptions:
    """Who makes the shards: never part of the plan. Raises UserError for what cannot be."""

    workers: Annotated[
        int | None,
        option(
            MACHINES,
            "Worker processes. [default: the CPU cores for small images on a CPU, else 1; Ray: all that have room]",
        ),
    ] = None
    min_workers: Annotated[
        int | None,
        option(
            MACHINES,
            "Ray: workers asked for before there is room, so that the cluster grows. [default: 1]",
        ),
    ] = None
    max_workers: Annotated[
        int | None,
        option(MACHINES, "Ray: never more workers; asked for by doubling, as they come. [default: no limit]"),
    ] = None
    threads: Annotated[
        int | None, option(MACHINES, "CPU threads of a worker. [default: 1 for small images, else all]")
    ] = None
    engine: Annotated[str, option(MACHINES, "Where shards are made: inline (this machine) or ray.")] = (
        "inline"
    )
    cpus_per_worker: Annotated[
        float | None, option(MACHINES, "Ray: CPUs reserved for each worker. [default: 1]")
    ] = None
    gpus_per_worker: Annotated[
        float | None,
        option(MACHINES, "Ray: GPUs for each worker, may be a fraction. [default: 1 if any]"),
    ] = None
    address: Annotated[
        str | None,
        option(MACHINES, "Ray: address of a running cluster, or auto. [default: start a local one]"),
    ] = None

    metrics_file: Annotated[
        str | None,
        option(
            EXPERTS,
            "Keep the run's numbers in this .prom file, for node-exporter's textfile collector. [default: none]",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise UserError(f"unknown engine {self.engine!r}; expected {' or '.join(ENGINES)}")
        for name in ("min_workers", "max_workers", "cpus_per_worker", "gpus_per_worker", "address"):
            if getattr(self, name) is not None and self.engine != "ray":
                option = name.replace("_", "-")
                raise UserError(f"--{option} is an option of Ray; add --engine ray or leave it out")
        require_counts(self, "workers", "min_workers", "max_workers", "threads")
        if self.workers is not None and (self.min_workers or self.max_workers):
            raise UserError(
                "--workers is exactly so many; give it alone, or --min-workers and --max-workers without it"
            )
        if (self.min_workers or 1) > (self.max_workers or math.inf):
            raise UserError(
                f"--min-workers {self.min_workers} is above --max-workers {self.max_workers}; give the smaller number first"
            )

    def workplace(self) -> Workplace:
        """Where the workers will be."""
        from ppgen.engines import Workplace  # loads torch: --help must answer at once

        return Workplace(self.engine, self.workers, self.cpus_per_worker, self.gpus_per_worker, self.address)


HERE = EngineOptions()
"""Inline, with what suits the plan and the machine."""
