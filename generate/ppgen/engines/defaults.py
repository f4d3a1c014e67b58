"""What a run takes where the user names nothing: workers, threads, a directory."""

from __future__ import annotations

import os

from ppcore.shards import default_directory
from ppgen.plan import Plan
from ppgen.shards import SMALL_SIDE
from ppgen.sources import choose_device

_WORTH_A_PROCESS = 2000  # samples; below it starting processes costs more than they save


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads(plan: Plan) -> int:
    """CPU threads of a worker. It depends on the picture alone, never on the number of workers: other thread counts give
    other last bits."""
    return 1 if plan.resolution <= SMALL_SIDE else cores()


def default_workers(plan: Plan, device: str) -> int:
    """As many processes as cores for small pictures on the CPU, else one."""
    small = plan.resolution <= SMALL_SIDE and plan.samples >= _WORTH_A_PROCESS
    on_cpu = device == "cpu" or (device == "auto" and choose_device(device).type == "cpu")
    return cores() if small and on_cpu else 1


def default_out(plan: Plan) -> str:
    """The directory of a plan when none is given."""
    target = str(plan.target["name"]) if plan.target is not None else None
    return default_directory(plan.kind, str(plan.source["name"]), target)
