"""The hardware and library versions that decide the last bits of a computation."""

from __future__ import annotations

import ctypes
import functools
import platform
import re
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path

import torch

_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Platform:
    """Two runs of the same plan give the same bytes if their platforms are equal.

    Attributes:
        torch: version and build.
        instructions: the CPU instruction set that torch uses.
        compile: how the generator's networks ran: `none`, `default` or `graphs`.
        gpu: model; None on a CPU.
        driver, cuda, cudnn: versions for the GPU; None if unknown.
        threads: of torch on a CPU; None on a GPU, where they have no influence.
    """

    torch: str
    instructions: str
    compile: str = "none"
    gpu: str | None = None
    driver: str | None = None
    cuda: str | None = None
    cudnn: str | None = None
    threads: int | None = None

    def differences(self, other: Platform) -> list[str]:
        """The fields that differ, as `field VALUE, here OTHER`; empty if results can be compared byte for byte."""
        pairs = [(f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self)]
        return [f"{name} {_shown(a)}, here {_shown(b)}" for name, a, b in pairs if a != b]


def this_platform(device: torch.device, compile_mode: str = "none") -> Platform:
    """The platform of `device` on this machine."""
    common = (str(torch.__version__), torch.backends.cpu.get_cpu_capability(), compile_mode)
    if device.type != "cuda":
        return Platform(*common, threads=torch.get_num_threads())
    cudnn = torch.backends.cudnn.version()
    return Platform(
        *common,
        gpu=torch.cuda.get_device_name(device),
        driver=driver_version(),
        cuda=torch.version.cuda,
        cudnn=None if cudnn is None else str(cudnn),
    )


@functools.cache  # may start a process
def driver_version() -> str | None:
    """Version of the NVIDIA driver; None if unknown."""
    try:
        return parse_driver(_DRIVER.read_text("utf-8"))
    except OSError:
        pass
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.splitlines()[0].strip() if answer.strip() else None


def parse_driver(text: str) -> str | None:
    """The version in the text of /proc/driver/nvidia/version."""
    match = re.search(r"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)?)\s", text)
    return match[1] if match else None


def _shown(value: str | int | None) -> str:
    return "none" if value is None else str(value)


_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> None:
    """Let glibc keep large freed blocks in this process instead of returning them to the kernel.

    Every layer's output is a large block. Without this setting a small model spends a tenth of its time on a CPU, an autoencoder a
    fifth, on getting zeroed pages from the kernel (`benchmarks/generators.py`). Other C libraries are not changed.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(_M_MMAP_MAX, 0)
