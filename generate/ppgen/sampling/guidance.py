"""Classifier-free guidance (Ho & Salimans 2022), restricted to an interval of noise levels."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Guidance:
    """How far the conditional prediction is moved away from the unconditional one, and at which noise levels.

    Low guidance in a limited interval is the default because the images are meant for training: guidance at high noise
    destroys variety and at low noise changes nothing (Kynkäänniemi et al. 2024, arXiv 2404.07724). Their interval for
    DiT-XL/2 is (0.34, 1.02] at scale 2.5. The default here contains it and is wider because its scale is lower.

    Attributes:
        scale: 1 is no guidance. A step with guidance evaluates the network on twice the batch.
        interval: (lo, hi); guidance acts where lo < noise-to-signal ratio <= hi; None means everywhere.
        channels: number of leading channels that are guided; None means all. The original DiT samples with 3 of 4.
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
