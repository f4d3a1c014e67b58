"""The noise of a batch, a function of each sample's seed alone."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from ppcore.errors import UserError
from ppcore.noise import PerSampleNoise
from ppcore.philox import PhiloxNoise

Noise = Literal["cpu", "philox"]
"""`cpu`: torch's own stream of each seed, drawn on the CPU. `philox`: counters (:mod:`ppcore.philox`), made where the network runs, without
a copy that waits for it; the same bits on every device."""


def check_noise(noise: str) -> None:
    """Raise UserError for what is no :data:`Noise`."""
    if noise not in get_args(Noise):
        raise UserError(f"unknown sampling option noise={noise!r}; choose {' or '.join(get_args(Noise))}")


def noise_of(noise: str, seeds: torch.Tensor, device: torch.device) -> PerSampleNoise | PhiloxNoise:
    """The streams of a batch, int64 (B,) seeds."""
    if noise == "cpu":
        return PerSampleNoise(seeds)
    return PhiloxNoise(seeds.to(device, non_blocking=True))


def unless_default(options: dict[str, object]) -> dict[str, object]:
    """Options as a plan describes them: `noise` only where it is not what every older plan means."""
    return {name: value for name, value in options.items() if (name, value) != ("noise", "cpu")}
