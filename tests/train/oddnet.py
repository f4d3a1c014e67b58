"""A network nobody anticipated: no batch norm, three branches, one input channel, a head without a familiar name."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class OddNet(nn.Module):
    def __init__(self, num_classes: int, in_channels: int = 1) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv2d(in_channels, 6, size, stride=2, padding=size // 2) for size in (1, 3, 5)
        )
        self.gate = nn.Parameter(torch.zeros(3))
        self.mix = nn.Conv2d(6, 12, 3, stride=2, padding=1, groups=2)
        self.decide = nn.Linear(12 * 2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.gate.softmax(0)
        y = sum(w * torch.tanh(branch(x)) for w, branch in zip(weights, self.branches, strict=True))
        y = torch.nn.functional.gelu(self.mix(y))
        return self.decide(torch.cat([y.mean((2, 3)), y.amax((2, 3))], 1))


def build(num_classes: int, in_channels: int) -> nn.Module:
    return OddNet(num_classes, in_channels)


def slow(num_classes: int, in_channels: int) -> nn.Module:
    """Batch norm with the momentum of MNASNet on the images themselves."""
    return nn.Sequential(
        nn.BatchNorm2d(in_channels, momentum=0.0003), nn.Flatten(), nn.LazyLinear(num_classes)
    )


class Noted(nn.Linear):
    """Stores a value that is no tensor in its state dict."""

    def get_extra_state(self) -> dict[str, int]:
        return {"calls": 0}

    def set_extra_state(self, state: dict[str, int]) -> None: ...


def noted(num_classes: int, in_channels: int) -> nn.Module:
    """For images of 32 pixels."""
    return nn.Sequential(nn.Flatten(), Noted(in_channels * 32 * 32, num_classes))
