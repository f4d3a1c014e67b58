"""Where and how fast: device, number type, compilation, memory, batch size."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import torch

from ppcore.errors import UserError
from ppgen.sources.protocol import Generator

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CPU_BATCH = 100
_MEMORY_SHARE = 0.6  # of the GPU's memory; the rest is for weights, a scoring classifier and fragmentation
_LARGEST_BATCH = 512


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:N` as a device. Raises UserError when there is none such."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"unknown device {name!r}; expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"device {name!r} asked for but PyTorch sees no CUDA device; use --device cpu or auto"
        )
    return device


def choose_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """The number type called `name`, or the device's default. Raises UserError."""
    if name is None or name == "auto":
        half = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if half else torch.float32
    if name not in _DTYPES:
        raise UserError(f"unknown number type {name!r}; expected {', '.join(_DTYPES)}")
    return _DTYPES[name]


def compiled(function: Callable[..., torch.Tensor], mode: str) -> Callable[..., torch.Tensor]:
    """`function` compiled for static shapes.

    Args:
        mode: `none`, `default`, or `graphs` (CUDA graphs, which save the launch of every kernel).

    Raises:
        UserError: unknown mode, or no C++ compiler for a CPU.
    """
    if mode == "none":
        return function
    if mode not in ("default", "graphs"):
        raise UserError(f"unknown compile mode {mode!r}; choose auto, none, default or graphs")
    if not torch.cuda.is_available() and shutil.which(os.environ.get("CXX", "g++")) is None:
        raise UserError(
            "compiling for the CPU needs a C++ compiler and none was found; install g++ or use compile=none"
        )
    if mode == "default":
        return torch.compile(function, dynamic=False)
    recorded = torch.compile(function, dynamic=False, mode="reduce-overhead")
    return lambda *inputs: recorded(*inputs).clone()  # the next replay overwrites what a graph returned


def automatic_batch_size(generator: Generator) -> int:
    """How many samples a forward pass should have: on a GPU what its memory holds, elsewhere 100.

    It depends on the GPU's whole memory, not on what happens to be free: the batch size is part of the plan, and a resumed run
    must come to the same one.
    """
    device: torch.device = getattr(generator, "device", torch.device("cpu"))
    if device.type != "cuda":
        return CPU_BATCH

    def peak_bytes(count: int) -> int:
        condition = torch.eye(generator.num_classes)[:1].expand(count, -1)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        with torch.compiler.set_stance("force_eager"):  # compiling for the trial sizes would take minutes
            generator.sample(condition, torch.arange(count))
        return torch.cuda.max_memory_allocated(device) - before

    return fitting_batch(peak_bytes, torch.cuda.get_device_properties(device).total_memory)


def fitting_batch(peak_bytes: Callable[[int], int], memory: int) -> int:
    """The largest power of two, at most 512, that fits a share of `memory`, extrapolated from batches of 2 and 4.

    Args:
        peak_bytes: batch size -> bytes that sampling it allocates at its peak, weights left out.
        memory: bytes of the device.
    """
    small, large = peak_bytes(2), peak_bytes(4)
    a_sample = max((large - small) / 2, 1.0)
    fits = max(1, int((memory * _MEMORY_SHARE - (small - 2 * a_sample)) / a_sample))
    return min(_LARGEST_BATCH, 1 << (fits.bit_length() - 1))
