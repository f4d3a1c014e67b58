"""A network with one layer under two names, which loads only state dicts that say its version, as torchvision's MNASNet does."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class StrictNet(nn.Module):
    _version = 2

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_channels, 8, 3, 2), nn.BatchNorm2d(8))
        self.first = nn.Linear(8, 8)
        self.second = self.first
        self.head = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.stem(x).relu().mean(dim=(2, 3))
        return self.head(self.second(self.first(x).relu()))

    def _load_from_state_dict(self, state: Any, prefix: str, local_metadata: Any, *more: Any) -> None:
        if local_metadata.get("version") != self._version:
            raise ValueError("the version is missing")
        super()._load_from_state_dict(state, prefix, local_metadata, *more)


def build(num_classes: int, in_channels: int) -> nn.Module:
    return StrictNet(num_classes, in_channels)
