"""From a name and the options that belong to it to an engine."""

from __future__ import annotations

from ppcore.errors import UserError
from ppgen.engines.base import Engine
from ppgen.engines.cluster import check_reservation
from ppgen.engines.inline import InlineEngine
from ppgen.engines.ray import RayEngine
from ppgen.engines.run import default_workers
from ppgen.plan import Plan
from ppgen.sources import Generator

ENGINES = ("inline", "ray")


def make_engine(
    name: str,
    plan: Plan,
    device: str,
    generator: Generator | None = None,
    *,
    workers: int | None = None,
    cpus_per_worker: float | None = None,
    gpus_per_worker: float | None = None,
    address: str | None = None,
) -> Engine:
    """The engine for a plan.

    Args:
        name: one of :data:`ENGINES`.
        device: of the workers, as `--device` takes it.
        generator: an already loaded one, for a single worker of this process.
        workers: how many; None is what suits the plan and the machine or, on Ray, as many as have room.
        cpus_per_worker, gpus_per_worker, address: see :class:`ppgen.engines.ray.RayEngine`.

    Raises:
        UserError: an unknown engine, Ray is not installed, or options that make no sense.
    """
    if name == "inline":
        count = workers or default_workers(plan, device)
        return InlineEngine(count, generator if count == 1 else None)
    if name != "ray":
        raise UserError(f"unknown engine {name!r}; expected {' or '.join(ENGINES)}")
    cpus = 1.0 if cpus_per_worker is None else cpus_per_worker
    check_reservation(device, cpus, gpus_per_worker)
    return RayEngine(workers, cpus, gpus_per_worker, address)
