"""Classifier-free guidance (Ho & Salimans 2022), restricted to an interval of noise levels."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Guidance:
    """How far, and where, the conditional prediction is pushed away from the unconditional one.

    Low guidance in a limited interval is the default because the images are meant for training: guidance at high noise
    destroys variety and at low noise changes nothing (Kynkäänniemi et al. 2024, arXiv 2404.07724). Their interval for
    DiT-XL/2 is (0.34, 1.02] at scale 2.5; the one here lies around it, wider for the lower scale.

    Attributes:
        scale: 1 is no guidance and costs nothing; steps with guidance evaluate the network on twice the batch.
        interval: noise-to-signal ratios (lo, hi) with lo < ratio <= hi where guidance acts; None everywhere.
        channels: how many leading channels are guided; None all. The original DiT samples with 3 of 4.
    """

    scale: float = 1.5
    interval: tuple[float, float] | None = (0.28, 2.0)
    channels: int | None = None

    def active(self, ratio: float) -> bool:
        """Whether a level of this noise-to-signal ratio is guided."""
        if self.scale == 1.0:
            return False
        return self.interval is None or self.interval[0] < ratio <= self.interval[1]

    def combine(self, conditional: torch.Tensor, unconditional: torch.Tensor) -> torch.Tensor:
        """unconditional + scale * (conditional - unconditional) on the guided channels, (B, C, H, W)."""
        guided = unconditional + self.scale * (conditional - unconditional)
        if self.channels is None or self.channels >= conditional.shape[1]:
            return guided
        return torch.cat([guided[:, : self.channels], conditional[:, self.channels :]], dim=1)
