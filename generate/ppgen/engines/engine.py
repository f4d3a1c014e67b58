"""Making shards with the workers that the options describe, and the defaults that depend on the plan."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from ppcore.shards import default_directory
from ppgen.engines.cluster import check_reservation, cluster, load_ray
from ppgen.engines.driver import Driver
from ppgen.engines.events import OnEvent, Outcome
from ppgen.engines.inline import workers_here
from ppgen.engines.ray import describe_range, workers_on_ray
from ppgen.options import EngineOptions
from ppgen.plan import Plan
from ppgen.shards import SMALL_SIDE, Job
from ppgen.sources import Generator, choose_device

_WORTH_A_PROCESS = 2000  # samples; below, starting processes takes longer than they save


def make_shards(
    job: Job,
    shards: Sequence[int],
    options: EngineOptions,
    on_event: OnEvent,
    generator: Generator | None = None,
) -> Outcome:
    """Make shards with the workers of the options; return when each is committed or given up.

    Args:
        generator: an already loaded one; a single worker in this process uses it.

    Raises:
        UserError: no worker can work.
    """
    if options.engine == "ray":
        with workers_on_ray(job, options, len(shards)) as workers:
            return Driver(shards, job.out, on_event, workers).run()
    count = min(options.workers or default_workers(job.plan, job.source.device), len(shards))
    return Driver(shards, job.out, on_event, workers_here(job, count, generator)).run()


def connected(options: EngineOptions, device: str) -> AbstractContextManager[object]:
    """Connect to the cluster of the options for the time of a run. Raises UserError for wrong options, or if nothing answers."""
    if options.engine == "ray":
        load_ray()
        check_reservation(device, options.cpus_per_worker or 1.0, options.gpus_per_worker)
    return nullcontext() if options.address is None else cluster(options.address)


def describe_workers(options: EngineOptions, plan: Plan, device: str) -> str:
    """`4 workers`, `as many workers as have room on Ray`."""
    if options.engine == "ray":
        return f"{describe_range(options)} on Ray"
    count = options.workers or default_workers(plan, device)
    return f"{count} worker{'s' if count > 1 else ''}"


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads(plan: Plan) -> int:
    """CPU threads of a worker. They depend on the image size only, not on the number of workers: another number of threads gives
    other last bits."""
    return 1 if plan.resolution <= SMALL_SIDE else cores()


def default_workers(plan: Plan, device: str) -> int:
    """One process a core for small images on the CPU, else one."""
    small = plan.resolution <= SMALL_SIDE and plan.samples >= _WORTH_A_PROCESS
    on_cpu = device == "cpu" or (device == "auto" and choose_device(device).type == "cpu")
    return cores() if small and on_cpu else 1


def default_out(plan: Plan) -> str:
    """The directory for a plan if none is given."""
    target = str(plan.target["name"]) if plan.target is not None else None
    return default_directory(plan.kind, str(plan.source["name"]), target)
