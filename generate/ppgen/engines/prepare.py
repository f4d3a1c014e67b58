"""Opening a source before there is a plan, on the kind of machine that the workers will have.

A driver without a GPU can so plan for workers with one, and a driver with several GPUs keeps no model on them beside its workers.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import torch

from ppgen.engines.cluster import cluster, make_reservation, require_room
from ppgen.engines.inline import gpu_share, limit_gpu_memory, visible_gpus
from ppgen.engines.ray import call_on_worker
from ppgen.generators import open_generator
from ppgen.options import EngineOptions
from ppgen.sources import Generator, SourceSpec

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
