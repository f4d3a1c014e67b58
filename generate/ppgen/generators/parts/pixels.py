"""The end of every family of ours: float images are rounded to pixels, and those that hold a NaN or an infinity are reported."""

from __future__ import annotations

import torch


class FloatSampler:
    """`sample` and `sample_checked` of the protocol (:mod:`ppgen.sources.protocol`) for a family that has `sample_float`."""

    def sample_float(self, condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        """The images before rounding: float (B, C, H, W), nominally in [-1, 1]."""
        raise NotImplementedError

    def sample(self, condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        """See :meth:`ppgen.sources.protocol.Generator.sample`."""
        return self.sample_checked(condition, seeds)[0]

    def sample_checked(
        self, condition: torch.Tensor, seeds: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`ppgen.sources.protocol.CheckedGenerator.sample_checked`."""
        with torch.inference_mode():
            images = self.sample_float(condition, seeds).float()
            return to_uint8(images), is_bad(images)


def is_bad(images: torch.Tensor) -> torch.Tensor:
    """Which of (B, C, H, W) hold a NaN or an infinity: bool (B,) on the images' device, by one reduction and without waiting.

    A sum is finite exactly when its terms are, short of pixels of 1e30, which are no image either.
    """
    return ~torch.isfinite(images.float().flatten(1).sum(dim=1))


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """[-1, 1] -> uint8, rounded to nearest, on the images' device."""
    return images.float().mul(127.5).add_(127.5).round_().clamp_(0, 255).to(torch.uint8)
