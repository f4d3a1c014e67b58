"""Noise that depends on the sample alone, never on worker, rank, order or batch-mates."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class PerSampleNoise:
    """Gaussian noise drawn from one CPU generator a sample (the idea of EDM2's `StackedRandomGenerator`).

    Successive draws continue each sample's own stream, so a stochastic sampler gives the same image in any batch
    and on any device.

    Args:
        seeds: int64 (B,), on any device.
    """

    def __init__(self, seeds: torch.Tensor | Sequence[int]) -> None:
        values = seeds.tolist() if isinstance(seeds, torch.Tensor) else list(seeds)
        self._generators = [torch.Generator().manual_seed(int(value)) for value in values]

    def randn(
        self,
        shape: Sequence[int],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> torch.Tensor:
        """(B, *shape) standard normal values; drawn as float32 on the CPU, then cast and moved."""
        rows = [torch.randn(tuple(shape), generator=generator) for generator in self._generators]
        return torch.stack(rows).to(device=device, dtype=dtype)
