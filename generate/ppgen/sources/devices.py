"""Where and how fast: device, number type, memory, batch size."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch

from ppcore.errors import UserError
from ppgen.sources.protocol import Generator

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CPU_BATCH = 100
_MEMORY_SHARE = 0.6  # of the GPU's memory; the rest is for weights, a scoring classifier and fragmentation
_LARGEST_BATCH = 512
_SMALLEST_TRIAL = 2


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


def make_deterministic() -> None:
    """Let this process compute the same bits every time on the same hardware, at the price of some speed.

    To be called before anything is computed: cuBLAS settles its workspaces when it is first used.

    Raises:
        RuntimeError: later, from an operation that has no deterministic form.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")  # no choice of kernels by timing
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # all of it is written before it is read
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def automatic_batch_size(generator: Generator) -> int:
    """How many samples a forward pass should have: on a GPU what its memory holds, elsewhere 100.

    It depends on the GPU's whole memory, not on what happens to be free: the batch size is part of the plan, and a resumed run
    must come to the same one.
    """
    known: int | None = getattr(generator, "automatic_batch", None)
    if known is not None:
        return known  # found out where the generator is
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

    index = torch.cuda.current_device() if device.index is None else device.index  # torch 2.11 wants a number
    share = torch.cuda.get_per_process_memory_fraction(index)  # where several workers are on one GPU
    memory = int(torch.cuda.get_device_properties(device).total_memory * share)
    return fitting_batch(peak_bytes, memory, getattr(generator, "decode_batch", _SMALLEST_TRIAL))


def fitting_batch(peak_bytes: Callable[[int], int], memory: int, decode_batch: int = _SMALLEST_TRIAL) -> int:
    """The largest power of two, at most 512, that fits a share of `memory`, extrapolated from two trials.

    An autoencoder that decodes in chunks takes more with every image up to a chunk and no more from there on, so that small trials
    would count its memory, most of it at 512 pixels, once a sample. The trials are one and two chunks, or, where that is more than
    fits, smaller ones, which err on the side of too small a batch.

    Args:
        peak_bytes: batch size -> bytes that sampling it allocates at its peak, weights left out; may run out of memory.
        memory: bytes of the device.
        decode_batch: images of a chunk.
    """
    budget, size = memory * _MEMORY_SHARE, max(_SMALLEST_TRIAL, 1 << (decode_batch.bit_length() - 1))
    while True:
        try:
            small, large = peak_bytes(size), peak_bytes(2 * size)
            if large <= budget or size == _SMALLEST_TRIAL:
                break
        except torch.OutOfMemoryError:
            if size == _SMALLEST_TRIAL:
                return 1
        size = max(_SMALLEST_TRIAL, size // 4)
    a_sample = max((large - small) / size, 1.0)
    fits = max(1, int((budget - (small - size * a_sample)) / a_sample))
    return min(_LARGEST_BATCH, 1 << (fits.bit_length() - 1))
