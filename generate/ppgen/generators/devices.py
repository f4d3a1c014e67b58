"""Where and how fast: device, number type, compilation, batch size, the way back to the host."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
from collections.abc import Callable
from typing import Any

import torch

from ppcore.errors import UserError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_MEMORY_SHARE = 0.8  # of the free GPU memory; the rest is for fragmentation and the encoder's pinned buffers
_LARGEST_BATCH = 512
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


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


def compiled(function: Callable[..., Any], mode: str) -> Callable[..., Any]:
    """`function` compiled for static shapes.

    Args:
        mode: `none`, `default`, or `graphs` (CUDA graphs, which save the launch of every kernel).

    Raises:
        UserError: unknown mode, or no C++ compiler for a CPU.
    """
    if mode == "none":
        return function
    if mode not in ("default", "graphs"):
        raise UserError(f"unknown compile mode {mode!r}; choose none, default or graphs")
    if not torch.cuda.is_available() and shutil.which(os.environ.get("CXX", "g++")) is None:
        raise UserError(
            "compiling for the CPU needs a C++ compiler and none was found; install g++ or use compile=none"
        )
    return torch.compile(function, dynamic=False, mode="reduce-overhead" if mode == "graphs" else None)


def keep_freed_memory() -> None:
    """Let glibc keep large freed blocks for this process instead of giving them back to the kernel each time.

    Every layer's output is a large block; fetching and zeroing its pages anew costs a small model a tenth of its time on a
    CPU, an autoencoder a fifth (`benchmarks/generators.py`). Other C libraries are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(_M_MMAP_MAX, 0)


def automatic_batch_size(peak_bytes: Callable[[int], int], device: torch.device) -> int:
    """The largest power of two that fits the free memory, extrapolated from two small batches.

    Args:
        peak_bytes: batch size -> peak bytes a sampling run of that size allocates.
        device: a GPU.
    """
    small, large = peak_bytes(2), peak_bytes(4)
    a_sample = max((large - small) / 2, 1.0)
    free, _ = torch.cuda.mem_get_info(device)
    fits = max(1, int((free * _MEMORY_SHARE - (small - 2 * a_sample)) / a_sample))
    return min(_LARGEST_BATCH, 1 << (fits.bit_length() - 1))


def to_host(images: torch.Tensor) -> torch.Tensor:
    """`images` on the CPU, through pinned memory from a GPU."""
    if images.device.type != "cuda":
        return images
    host = torch.empty(images.shape, dtype=images.dtype, pin_memory=True)
    host.copy_(images, non_blocking=True)
    torch.cuda.current_stream(images.device).synchronize()
    return host
