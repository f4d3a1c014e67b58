"""Networks as users write them, each unusual in one way; for images of any size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_WIDTH = 16


def _backbone(in_channels: int) -> nn.Sequential:
    """(N, C, H, W) -> (N, 16)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, _WIDTH, 3, 2, 1),
        nn.BatchNorm2d(_WIDTH),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


class Plain(nn.Module):
    """Nothing unusual; the head has an unusual name."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.backbone = _backbone(in_channels)
        self.decide = nn.Linear(_WIDTH, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.decide(self.backbone(x))


class Tied(Plain):
    """Its head and one of its blocks are registered under two names."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__(num_classes, in_channels)
        self.last, self.stem = self.decide, self.backbone[0]


class Lazy(nn.Sequential):
    """Learns the widths of its inputs from the first images."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(
            nn.LazyConv2d(_WIDTH, 3, 2, 1),
            nn.LazyBatchNorm2d(),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.LazyLinear(num_classes),
        )


class Gated(nn.Module):
    """The last linear layer that it registers is a gate; the head is another one."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.backbone = _backbone(in_channels)
        self.decide = nn.Linear(_WIDTH, num_classes)
        self.gate = nn.Linear(_WIDTH, _WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.backbone(x)
        return self.decide(x * self.gate(x).sigmoid())


class Named(Gated):
    """The same, and it says which layer its head is."""

    def get_classifier(self) -> nn.Module:
        return self.decide


class TwoHeads(Plain):
    """The mean of a linear head on the features and a convolutional one on the picture."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__(num_classes, in_channels)
        self.other = nn.Conv2d(in_channels, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return (self.decide(self.backbone(x)) + self.other(x).mean((2, 3))) / 2

    def get_classifier(self) -> tuple[nn.Module, nn.Module]:
        return self.decide, self.other


class Prototypes(nn.Module):
    """Without a linear head: the logits are negative distances to learned points."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.backbone = _backbone(in_channels)
        self.points = nn.Parameter(torch.randn(num_classes, _WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return -torch.cdist(self.backbone(x), self.points)


class Tuple(Plain):
    """Returns logits and features."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        features = self.backbone(x)
        return self.decide(features), features


class TupleInTraining(Plain):
    """Returns logits and features in training, and logits in evaluation."""

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:  # type: ignore[override]
        features = self.backbone(x)
        logits = self.decide(features)
        return (logits, features) if self.training else logits
