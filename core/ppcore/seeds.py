"""Seeds that depend only on the run seed and the sample, not on worker, rank, order or batch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

_MASK64 = (1 << 64) - 1
_MASK63 = (1 << 63) - 1


def sample_seed(run_seed: int, index: int) -> int:
    """63-bit seed of sample `index` in the run seeded `run_seed` (splitmix64, Steele et al. 2014).

    A hash is used because with `run_seed + index` runs with neighbouring seeds would share samples.
    """
    z = (run_seed * 0x9E3779B97F4A7C15 + (index + 1) * 0xD1342543DE82EF95) & _MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK64
    return (z ^ (z >> 31)) & _MASK63


def derive(seed: int, *labels: str | int) -> int:
    """63-bit seed for a named purpose, independent of the seeds for other purposes."""
    text = "\x1f".join(str(part) for part in (seed, *labels)).encode(errors="surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") & _MASK63


def numpy_rng(seed: int, *labels: str | int) -> np.random.Generator:
    """A numpy generator for a named purpose (see :func:`derive`)."""
    return np.random.default_rng(derive(seed, *labels))


class PerSampleNoise:
    """Noise from one CPU generator for each sample (as EDM2's `StackedRandomGenerator`).

    Successive draws continue each sample's stream, so a stochastic solver makes the same image in any batch. The draws happen on
    the CPU, so the noise is also the same on any device.

    Args:
        seeds: int64 (B,), on any device.
    """

    def __init__(self, seeds: torch.Tensor | Sequence[int]) -> None:
        values = seeds.tolist() if isinstance(seeds, torch.Tensor) else list(seeds)
        self._generators = [torch.Generator().manual_seed(int(value)) for value in values]

    def rand(self, shape: Sequence[int], *, device: torch.device | str = "cpu") -> torch.Tensor:
        """(B, *shape) uniform values in [0, 1), drawn as float64 on the CPU, then moved to `device`."""
        rows = [torch.rand(tuple(shape), generator=g, dtype=torch.float64) for g in self._generators]
        return torch.stack(rows).to(device)

    def randn(
        self, shape: Sequence[int], *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> torch.Tensor:
        """(B, *shape) standard normal values, drawn as float32 on the CPU, then cast to `dtype` and moved to `device`."""
        rows = [torch.randn(tuple(shape), generator=generator) for generator in self._generators]
        return torch.stack(rows).to(device=device, dtype=dtype)
