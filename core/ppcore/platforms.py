"""What a computation ran on, as far as it decides the last bits of its results."""

from __future__ import annotations

import functools
import re
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path

import torch

_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Platform:
    """Two runs of the same plan give the same bytes where these are the same.

    Attributes:
        torch: version, its build included.
        instructions: the CPU's, as torch uses them.
        compile: how the generator's networks ran: `none`, `default` or `graphs`.
        gpu: model, None on a CPU; the rest of the fields belong to it.
        driver, cuda, cudnn: versions; None where nothing says them.
        threads: of torch on a CPU; None on a GPU, where they decide nothing.
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
        """What differs, as `field mine, here theirs`; empty when results can be compared byte for byte."""
        pairs = [(f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self)]
        return [f"{name} {_shown(a)}, here {_shown(b)}" for name, a, b in pairs if a != b]


def this_platform(device: torch.device, compile_mode: str = "none") -> Platform:
    """What work on `device` of this machine runs on."""
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


@functools.cache  # a subprocess, where the kernel module does not say it
def driver_version() -> str | None:
    """Of the NVIDIA driver; None where nobody says."""
    try:
        return parse_driver(_DRIVER.read_text())
    except OSError:
        pass
    ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(ask, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.splitlines()[0].strip() if answer.strip() else None


def parse_driver(text: str) -> str | None:
    """The version in what the kernel module says of itself."""
    found = re.search(r"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)?)\s", text)
    return found[1] if found else None


def _shown(value: str | int | None) -> str:
    return "none" if value is None else str(value)
