"""The painter of `dummy` for tests that hurt its workers: they leave their process numbers, and one seed may fail."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from dummy import Painter


class FragilePainter(Painter):
    """A painter that raises for the sample with the seed `failing`."""

    def __init__(self, delay: float, failing: int, version: int) -> None:
        super().__init__(10, delay, version=version)
        self._failing = failing

    def sample(self, condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        if self._failing in seeds.tolist():
            raise ValueError("this sample is cursed")
        return super().sample(condition, seeds)


def build(delay: float = 0.0, failing: int = -1, version: int = 1, pids: str = "") -> FragilePainter:
    """The `module:callable`; `pids` is a folder for one file a process, named after it."""
    if pids:
        Path(pids, str(os.getpid())).touch()
    return FragilePainter(delay, failing, version)
