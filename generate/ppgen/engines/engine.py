"""The engine of a run, chosen by its options, and the defaults that depend on the plan."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from ppcore.shards import default_directory
from ppgen.engines.events import OnEvent, Outcome
from ppgen.engines.inline import InlineEngine
from ppgen.engines.ray import RayEngine
from ppgen.options import EngineOptions
from ppgen.plan import Plan
from ppgen.shards import SMALL_SIDE, Job
from ppgen.sources import Generator, choose_device

_WORTH_A_PROCESS = 2000  # samples; below, starting processes takes longer than they save


class Engine(Protocol):
    """Makes shards with workers.

    Attributes:
        workers: a description for the user, such as `4 workers`.
    """

    workers: str

    def connected(self) -> AbstractContextManager[object]:
        """Connect to the machines of the workers for the time of a run, before anything is written. Raises UserError."""
        ...

    def run(self, job: Job, shards: Sequence[int], on_event: OnEvent) -> Outcome:
        """Return when every shard is committed or given up. Raises UserError if no worker can work."""
        ...


def make_engine(
    options: EngineOptions, plan: Plan, device: str, generator: Generator | None = None
) -> Engine:
    """The engine for a plan.

    Args:
        device: of the workers, as `--device` takes it.
        generator: an already loaded one; a single worker in this process uses it.

    Raises:
        UserError: Ray is not installed, or no worker can reserve what the options ask for.
    """
    if options.engine == "ray":
        return RayEngine(options, device)
    return InlineEngine(options.workers or default_workers(plan, device), generator)


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
