"""A generator that costs nothing, for measuring everything around one: pictures are a table lookup by class and seed."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch

_VARIANTS = 64  # noise fields a picture may show


class Procedural:
    """Grey pictures: the class number in binary in the first row, one of 64 fixed noise fields below.

    Args:
        delay: seconds that a batch pretends to take.
    """

    licence, revision, channels = "CC0-1.0", "1", 1

    def __init__(self, classes: int, side: int, delay: float) -> None:
        self.num_classes, self.resolution, self.delay = classes, side, delay
        self.class_names = tuple(f"class {i}" for i in range(classes))
        noise = torch.randint(0, 256, (_VARIANTS, 1, side, side), generator=torch.Generator().manual_seed(0))
        self._noise = noise.to(torch.uint8)
        bits = (torch.arange(classes)[:, None] >> torch.arange(min(side, 16))) & 1
        self._bits = (bits * 255).to(torch.uint8)  # (K, bits)

    def describe(self) -> dict[str, Any]:
        return {"sampling": {}}

    def sample(self, condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        """float32 (B, K), int64 (B,) -> uint8 (B, 1, side, side)."""
        if self.delay:
            time.sleep(self.delay)
        images = self._noise[seeds % _VARIANTS]
        bits = self._bits[condition.argmax(dim=1)]
        images[:, 0, 0, : bits.shape[1]] = bits
        return images


def build(classes: int = 1000, side: int = 8, delay: float = 0.0, pids: str = "") -> Procedural:
    """The `module:callable`; in the folder `pids` every process that loads it leaves a file named after itself."""
    if pids:
        Path(pids, str(os.getpid())).touch()
    return Procedural(classes, side, delay)
