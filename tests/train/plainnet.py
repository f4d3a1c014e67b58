"""A network without batch norm, whose statistics would be per process; if told to, its process dies once."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from torch import Tensor, nn

MARK = "PLAINNET_MARK"
"""Environment variable: a file that the mortal network leaves when it dies; while it is there nobody dies."""
_LAST_CALL = 8  # one a step


def build(num_classes: int, in_channels: int) -> nn.Module:
    """For images of 16 pixels."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, num_classes),
    )


class Mortal(nn.Module):
    """The same network; its second process is killed in the middle of the training, once."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.net = build(num_classes, in_channels)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.training
        mark = Path(os.environ.get(MARK, "."))
        if os.environ.get("RANK") == "1" and self.calls == _LAST_CALL and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.net(x)
