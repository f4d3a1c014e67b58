"""From a name and the options that belong to it to an engine."""

from __future__ import annotations

from ppgen.engines.base import Engine
from ppgen.engines.defaults import default_workers
from ppgen.engines.describe import DescribedSource
from ppgen.engines.inline import InlineEngine
from ppgen.engines.ray import RayEngine, WorkerRange, check_reservation
from ppgen.plan import Plan
from ppgen.sources import Generator


def make_engine(
    name: str,
    plan: Plan,
    device: str,
    generator: Generator | None = None,
    *,
    workers: int | None = None,
    min_workers: int | None = None,
    max_workers: int | None = None,
    cpus_per_worker: float | None = None,
    gpus_per_worker: float | None = None,
    address: str | None = None,
) -> Engine:
    """The engine for a plan.

    Args:
        name: `inline` or `ray`.
        device: of the workers, as `--device` takes it.
        generator: an already loaded one, for a single worker of this process.
        workers: how many; None is what suits the plan and the machine or, on Ray, as many as have room.
        min_workers, max_workers: on Ray, a range in the place of a number (see :class:`ppgen.engines.ray.WorkerRange`).
        cpus_per_worker, gpus_per_worker, address: see :class:`ppgen.engines.ray.RayEngine`.

    Raises:
        UserError: Ray is not installed, or options that make no sense.
    """
    if name == "inline":
        count = workers or default_workers(plan, device)
        loaded = generator if count == 1 and not isinstance(generator, DescribedSource) else None
        return InlineEngine(count, loaded)
    assert name == "ray", name
    cpus = 1.0 if cpus_per_worker is None else cpus_per_worker
    check_reservation(device, cpus, gpus_per_worker)
    wanted = WorkerRange(min_workers or 1, max_workers) if workers is None else workers
    return RayEngine(wanted, cpus, gpus_per_worker, address)
