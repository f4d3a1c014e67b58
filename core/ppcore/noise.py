"""Noise that depends on the sample's seed alone, not on worker, order or the other samples of the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class PerSampleNoise:
    """Gaussian noise from one CPU generator for each sample (as EDM2's `StackedRandomGenerator`).

    Successive draws continue each sample's stream, so a stochastic solver makes the same image in any batch. The draws happen on
    the CPU, so the noise is also the same on any device.

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
        """(B, *shape) standard normal values, drawn as float32 on the CPU, then cast to `dtype` and moved to `device`."""
        rows = [torch.randn(tuple(shape), generator=generator) for generator in self._generators]
        return torch.stack(rows).to(device=device, dtype=dtype)
