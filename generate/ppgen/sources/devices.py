"""Device, number type, deterministic algorithms, batch size."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch

from ppcore.errors import UserError
from ppgen.sources.protocol import Generator

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CPU_BATCH = 100
_MEMORY_SHARE = (
    0.6  # of the GPU's memory, for a batch; the rest is for weights, a scoring classifier and fragmentation
)
_LARGEST_BATCH = 512
_SMALLEST_TRIAL = 2


def choose_device(name: str) -> torch.device:
    """The device `auto`, `cpu`, `cuda` or `cuda:N`. Raises UserError if it does not exist."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"unknown device {name!r}; expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device is {name!r}, but PyTorch finds no CUDA device; use --device cpu or auto")
    return device


def choose_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """The number type `name`, by default bfloat16 on GPUs that support it, else float32. Raises UserError if it is unknown."""
    if name is None or name == "auto":
        half = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if half else torch.float32
    if name not in _DTYPES:
        raise UserError(f"unknown number type {name!r}; expected {', '.join(_DTYPES)}")
    return _DTYPES[name]


def make_deterministic() -> None:
    """Make this process compute the same bits every time on the same hardware, a little slower.

    Call it before the first computation, because cuBLAS chooses its workspaces then. Afterwards an operation without a deterministic form
    raises RuntimeError.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")  # no choice of kernels by timing
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # all memory is written before it is read
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def automatic_batch_size(generator: Generator) -> int:
    """The batch size: on a GPU as many samples as its memory holds, else 100.

    It depends on the total memory of the GPU, not on the free memory, because the batch size is part of the plan and a resumed run must
    choose the same.
    """
    known: int | None = getattr(generator, "automatic_batch", None)
    if known is not None:
        return known  # measured on the worker
    device: torch.device = getattr(generator, "device", torch.device("cpu"))
    if device.type != "cuda":
        return CPU_BATCH

    def peak_bytes(count: int) -> int:
        condition = torch.eye(generator.num_classes)[:1].expand(count, -1)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        with torch.compiler.set_stance("force_eager"):  # compiling for the trials would take minutes
            generator.sample(condition, torch.arange(count))
        return torch.cuda.max_memory_allocated(device) - before

    index = (
        torch.cuda.current_device() if device.index is None else device.index
    )  # torch 2.11 requires a number
    share = torch.cuda.get_per_process_memory_fraction(index)  # below 1 if several workers share the GPU
    memory = int(torch.cuda.get_device_properties(device).total_memory * share)
    return fitting_batch(peak_bytes, memory, getattr(generator, "decode_batch", _SMALLEST_TRIAL))


def fitting_batch(peak_bytes: Callable[[int], int], memory: int, decode_batch: int = _SMALLEST_TRIAL) -> int:
    """The largest power of two, at most 512, that fits 60 % of `memory`, extrapolated from two trials.

    An autoencoder that decodes in chunks needs memory for one chunk, however large the batch is. Trials smaller than a chunk would count
    that memory once for each sample. So the trials have one and two chunks; if these do not fit, smaller trials give a batch size that
    is rather too small.

    Args:
        peak_bytes: batch size -> peak bytes that sampling allocates, without weights; may raise OutOfMemoryError.
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
