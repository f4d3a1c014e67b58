"""Opening a source before there is a plan, making shards with the workers that the options describe, and defaults that depend on the plan.

A source is opened on the kind of machine that the workers will have, so a driver without a GPU can plan for workers with one.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, TypeVar

import torch

from ppcore.shards import default_directory
from ppgen.engines.cluster import check_reservation, cluster, load_ray, make_reservation, require_room
from ppgen.engines.driver import Driver
from ppgen.engines.events import OnEvent, Outcome
from ppgen.engines.inline import gpu_share, limit_gpu_memory, visible_gpus, workers_here
from ppgen.engines.ray import call_on_worker, describe_range, workers_on_ray
from ppgen.generators import open_generator
from ppgen.options import EngineOptions
from ppgen.plan import Plan
from ppgen.shards import SMALL_SIDE, Job
from ppgen.sources import Generator, SourceSpec, choose_device

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


_T = TypeVar("_T")


def open_for_workers(
    spec: SourceSpec, options: EngineOptions, use: Callable[..., _T], *arguments: Any
) -> tuple[SourceSpec, Generator | None, _T]:
    """Open a source and call `use(spec, generator, *arguments)` with it.

    With Ray and GPUs this happens on a worker of the cluster, with several workers on GPUs of this machine in a process that ends
    afterwards, else in this process.

    Args:
        use: a function of a module; its arguments and its result are pickled.

    Returns:
        How workers open the source; the generator if this process has it; the result of `use`.

    Raises:
        UserError: the source cannot be opened, or there is no such device.
    """
    if options.engine == "ray" and _may_have_gpus(spec.device, options):
        with cluster(options.address) as grows:
            reservation = make_reservation(spec.device, options)
            if reservation["GPU"]:
                require_room(reservation, grows)
                return (
                    spec,
                    None,
                    call_on_worker(
                        reservation, _open_and_use, None, reservation["GPU"], spec, use, arguments
                    ),
                )
    if options.engine == "ray" and spec.device == "auto":
        spec = replace(spec, device="cpu")  # Ray hides the GPUs that a worker has not reserved
    gpus = visible_gpus(spec.device) if options.engine == "inline" and (options.workers or 1) > 1 else []
    if gpus:
        share = gpu_share(options.workers or 1, len(gpus))
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return spec, None, pool.submit(_open_and_use, gpus[0], share, spec, use, arguments).result()
    generator = open_generator(spec)
    return spec, generator, use(spec, generator, *arguments)


def _may_have_gpus(device: str, options: EngineOptions) -> bool:
    if device == "cpu" or options.gpus_per_worker == 0:
        return False
    return options.address is not None or torch.cuda.is_available() or device != "auto"


def _open_and_use(
    gpu: str | None, share: float, spec: SourceSpec, use: Callable[..., _T], arguments: tuple[Any, ...]
) -> _T:
    """In another process. `gpu`: for CUDA_VISIBLE_DEVICES; `share`: of the GPU that this process may use."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # before anything asks CUDA
    limit_gpu_memory(share)
    return use(spec, open_generator(spec), *arguments)
