"""A network whose logits stop being numbers after some steps."""

from __future__ import annotations

import os

import torch
from torch import nn


class Exploding(nn.Module):
    """Its logits are no numbers from the ninth training step on; of two processes, only the second one's are."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(in_channels * 16 * 16, num_classes)
        self.steps = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += self.training
        bad = self.steps > 8 and os.environ.get("RANK") != "0"
        return self.fc(x.flatten(1)) * (float("nan") if bad else 1.0)


def build(num_classes: int, in_channels: int) -> nn.Module:
    return Exploding(num_classes, in_channels)
