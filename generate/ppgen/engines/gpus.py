"""The GPUs of this machine, as worker processes share them."""

from __future__ import annotations

import os

import torch

_OF_ITS_SHARE = (
    0.95  # what a process may allocate of its share; its CUDA context lies outside of what torch counts
)


def visible_gpus(device: str) -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name, for workers on `device`; none where they are on the CPU or on one GPU by number."""
    if device not in ("auto", "cuda") or not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named:
        return [name.strip() for name in named.split(",") if name.strip()]
    return [str(number) for number in range(torch.cuda.device_count())]


def gpu_share(workers: int, gpus: int) -> float:
    """What each of so many workers may have of its GPU, when they are spread over so many."""
    return 1 / -(-workers // gpus) if gpus else 1.0


def limit_gpu_memory(share: float) -> None:
    """Hold this process to its share of the GPU it sees, where several work on one.

    Raises:
        torch.OutOfMemoryError: later, from whatever allocates more; never in a neighbour on the same GPU.
    """
    if 0 < share < 1 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(share * _OF_ITS_SHARE)
