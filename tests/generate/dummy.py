"""A generator without a network: it paints its condition into the first row of the image and noise below, so that tests can
read from the pixels what a sample was made with. Its classifier reads the row back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

SIDE = 16


class Painter:
    """Grey 16x16 pictures of `num_classes` classes.

    Args:
        delay: seconds a batch takes.
        flat: leave the noise out: images of a class are equal.
        fail: file; while it holds a number above zero, sampling raises and counts it down.
    """

    licence, revision, resolution, channels = "CC0-1.0", "1", SIDE, 1

    def __init__(
        self, num_classes: int = 10, delay: float = 0.0, fail: str = "", version: int = 1, flat: bool = False
    ) -> None:
        self.flat = flat
        self.num_classes, self.delay, self.fail, self.version = num_classes, delay, fail, version
        self.class_names = tuple(f"class {i}" for i in range(num_classes))

    def describe(self) -> dict[str, Any]:
        return {"version": self.version, "sampling": {}}

    def sample(self, condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        time.sleep(self.delay)
        if self.fail and (left := int(Path(self.fail).read_text())) > 0:
            Path(self.fail).write_text(str(left - 1))
            raise RuntimeError("the painter's hand slipped")
        rows = [torch.rand(1, SIDE, SIDE, generator=torch.Generator().manual_seed(int(s))) for s in seeds]
        images = (torch.stack(rows) * 255).to(torch.uint8)
        if self.flat:
            images.zero_()
        images[:, 0, 0, : self.num_classes] = (condition * 255).round().to(torch.uint8)
        return images


def build(
    num_classes: int = 10, delay: float = 0.0, fail: str = "", version: int = 1, flat: bool = False
) -> Painter:
    """The `module:callable` of the tests."""
    return Painter(num_classes, delay, fail, version, flat)


class Reader(nn.Module):
    """Logits are the painted row, times ten."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.register_buffer("gain", torch.tensor(10.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, 1, 16, 16) in [-1, 1] -> (B, K)
        return x[:, 0, 0, : self.num_classes] * self.gain
