"""The painter of `dummy` in a worker that says something on standard error, and crashes once."""

from __future__ import annotations

import faulthandler
import os
import time
from pathlib import Path

import torch
from dummy import Painter


class Talker(Painter):
    """Crashes at its first sample unless the file `where` is there."""

    def __init__(self, where: str) -> None:
        super().__init__(10)
        self._where = Path(where)

    def sample(self, condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        try:
            self._where.touch(exist_ok=False)
        except FileExistsError:
            return super().sample(condition, seeds)
        faulthandler.enable()
        os.write(2, b"first words\n")
        time.sleep(1.0)
        os.write(2, b"last words\n")
        os.abort()


def build(where: str) -> Talker:
    """The `module:callable`."""
    return Talker(where)
