"""Processor, memory and GPUs, inside the limits of a container."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import torch

from ppgen.doctor.finding import Finding, State
from ppgen.engines import cores
from ppgen.plan import format_bytes
from ppgen.sources import COSTS

_CGROUP = Path("/sys/fs/cgroup")
_SHARED = Path("/dev/shm")
_BESIDE = 2e9  # bytes beside the weights: Python, torch, a batch
_LEAST_SHARED = 512 * 2**20  # bytes that decoding processes and Ray pass their data through


def check_processor() -> Finding:
    """Cores that may be used, and a container's quota of them."""
    facts = f"{cores()} cores, {torch.backends.cpu.get_cpu_capability()}"
    quota = cpu_quota(_CGROUP)
    if quota is None or quota >= cores():
        return Finding("processor", facts)
    lost = f"the container may use {quota:g} of them, and programs that start one thread a core get in their own way"
    remedy = f"give --workers {max(1, int(quota))} and OMP_NUM_THREADS={max(1, int(quota))}"
    return Finding("processor", facts, "limited", lost, remedy)


def check_memory() -> Finding:
    """What fits beside the weights of the known sources."""
    total = memory_limit(_CGROUP)
    return judge_memory("memory", total, format_bytes(total), bytes_a_value=4)


def judge_memory(check: str, total: float, facts: str, *, bytes_a_value: int) -> Finding:
    """Which of the known sources do not fit into `total` bytes."""
    needed = {name: cost.parameters * bytes_a_value + _BESIDE for name, cost in COSTS.items()}
    too_large = {name: size for name, size in needed.items() if size > total}
    if not too_large:
        return Finding(check, facts)
    lost = ", ".join(f"{name} (about {format_bytes(size)})" for name, size in too_large.items())
    state: State = "broken" if "letters" in too_large else "limited"
    return Finding(
        check, facts, state, f"these sources do not fit: {lost}", "use a smaller source or a larger machine"
    )


def check_shared_memory() -> Finding:
    """/dev/shm, which containers are given 64 MB of."""
    if not _SHARED.is_dir():
        return Finding("shared-memory", "no /dev/shm")
    size = shutil.disk_usage(_SHARED).total
    if size >= _LEAST_SHARED:
        return Finding("shared-memory", format_bytes(size))
    lost = "decoding processes (pptrain --workers) and Ray pass their data through it and would die of it"
    return Finding(
        "shared-memory", format_bytes(size), "limited", lost, "start the container with --shm-size=2g"
    )


def check_gpus() -> list[Finding]:
    """Every GPU that PyTorch sees; where it sees none, why."""
    if not torch.cuda.is_available():
        return [_no_gpu()]
    found = []
    for number in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(number)
        said = f"{facts.name}, {format_bytes(facts.total_memory)}, CUDA {torch.version.cuda}"
        found.append(judge_memory(f"gpu-{number}", facts.total_memory, said, bytes_a_value=2))
    return found


def _no_gpu() -> Finding:
    slow = "sources of 256 pixels and more take seconds to minutes an image on a CPU"
    driver = _driver_says()
    if driver is None:
        return Finding(
            "gpu", "none", "limited", slow, "nothing, for small sources; else use a machine with a GPU"
        )
    if torch.version.cuda is None:
        why = f"PyTorch {torch.__version__} was built without CUDA, so the GPU ({driver}) is not used and {slow}"
        return Finding("gpu", driver, "limited", why, "install PyTorch's CUDA build")
    why = f"PyTorch for CUDA {torch.version.cuda} cannot use it (driver too old, or CUDA_VISIBLE_DEVICES hides it), and {slow}"
    return Finding("gpu", driver, "limited", why, "update the driver, or unset CUDA_VISIBLE_DEVICES")


def _driver_says() -> str | None:
    """GPUs and driver as `nvidia-smi` names them; None where there are none."""
    ask = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(ask, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return "; ".join(answer.split("\n")).strip("; ") or None


def cpu_quota(cgroup: Path) -> float | None:
    """Cores a container may use, from `cpu.max` (cgroup 2) or `cpu.cfs_*` (cgroup 1); None where there is no limit."""
    try:
        if (cgroup / "cpu.max").is_file():
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota, period = ((cgroup / f"cpu/cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):  # no cgroups here; or "max"
        return None


def memory_limit(cgroup: Path) -> float:
    """Bytes this process may use: the machine's, or a container's where that is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            return min(machine, int((cgroup / name).read_text()))
        except (OSError, ValueError):  # as above
            continue
    return machine
