"""Quantities of the global batch, for methods whose loss is more than a mean over the images of one process.

The trainer averages gradients over the processes. That is exact for means over images, because all processes have equally many. A method
that counts images, keeps running statistics or draws noise per image uses these functions, so that N processes compute what one process
computes. With one process they return their argument.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_reduce


def process_count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather_rows(x: Tensor) -> Tensor:
    """(N, ...) of this process -> (processes * N, ...) in the order of the ranks, without gradient; N must be the same everywhere."""
    if process_count() == 1:
        return x.detach()
    parts = [torch.empty_like(x) for _ in range(process_count())]
    dist.all_gather(parts, x.detach().contiguous())
    return torch.cat(parts)


def own_rows(x: Tensor) -> Tensor:
    """(processes * N, ...) -> (N, ...): the rows that :func:`gather_rows` took from this process."""
    return x if process_count() == 1 else x.chunk(process_count())[dist.get_rank()]


def sum_over_processes(x: Tensor) -> Tensor:
    """The sum of `x` over the processes; gradients flow back into the part of every process."""
    return x if process_count() == 1 else all_reduce(x)


def randn_of_batch(x: Tensor) -> Tensor:
    """Standard normal noise of the shape of `x`: this process's rows of the noise that one process would draw for the global batch."""
    if process_count() == 1:
        return torch.randn_like(x)
    noise = torch.randn(process_count() * x.shape[0], *x.shape[1:], dtype=x.dtype, device=x.device)
    dist.broadcast(noise, src=0)
    return own_rows(noise)
