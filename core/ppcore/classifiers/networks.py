"""Built-in networks for small images; larger ones come from torchvision, timm or the user."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F


class _Block(nn.Module):
    """Basic residual block (He et al. 2016), average-pooled shortcut (He et al. 2019, "bag of tricks", ResNet-D)."""

    def __init__(self, in_width: int, width: int, stride: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_width, width, 3, stride, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = norm(width)
        self.pool: nn.Module = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
        self.skip: nn.Module = nn.Identity()
        if in_width != width:
            self.skip = nn.Sequential(nn.Conv2d(in_width, width, 1, bias=False), norm(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, C, H, W) -> (N, width, H/stride, W/stride)
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        return F.relu(y + self.skip(self.pool(x)), inplace=True)


class SmallNet(nn.Module):
    """Residual network for images of about 32x32: 0.3 M parameters, 10 M multiply-adds at 32x32x1.

    It halves the resolution four times and pools globally, so it accepts any size from 16 pixels.

    Args:
        num_classes: width of the output.
        in_channels: 1 (grey) or 3 (RGB).
        widths: channels of the stem and of the three residual stages.
        norm: number of channels -> normalisation layer.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        widths: tuple[int, int, int, int] = (16, 32, 64, 128),
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        stem, *stages = widths
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, stem, 3, 1, 1, bias=False), norm(stem), nn.ReLU(inplace=True)
        )
        blocks: list[nn.Module] = []
        width = stem
        for stage in stages:
            blocks.append(_Block(width, stage, 2, norm))
            width = stage
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, C, H, W) -> (N, num_classes)
        x = self.blocks(self.stem(x))
        return self.fc(x.mean(dim=(2, 3)))


class _Depthwise(nn.Conv2d):
    """3x3 depthwise convolution. Images below 3x3 are padded: without padding oneDNN needs seven times as long for the weight gradient."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__(width, width, 3, stride, 1, groups=width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, C, H, W) -> (N, C, H/stride, W/stride)
        if self.training and x.device.type == "cpu" and x.shape[-1] < 3:
            return F.conv2d(F.pad(x, (1, 1, 1, 1)), self.weight, None, self.stride, groups=self.groups)
        return super().forward(x)


class _Inverted(nn.Module):
    """Inverted residual block (Sandler et al. 2018, arXiv 1801.04381): widen, depthwise 3x3, project without activation."""

    def __init__(self, in_width: int, width: int, stride: int, expansion: int = 4) -> None:
        super().__init__()
        wide = expansion * in_width
        self.residual = stride == 1 and in_width == width
        self.layers = nn.Sequential(
            nn.Conv2d(in_width, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(inplace=True),
            _Depthwise(wide, stride),
            nn.BatchNorm2d(wide),
            nn.ReLU(inplace=True),
            nn.Conv2d(wide, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, C, H, W) -> (N, width, H/stride, W/stride)
        y = self.layers(x)
        return x + y if self.residual else y


class MobileNet(nn.Module):
    """MobileNetV2-like network for images of about 32x32, an example of a network for small devices: 0.1 M parameters.

    It halves the resolution four times and pools globally, so it accepts any size from 16 pixels.

    Args:
        num_classes: width of the output.
        in_channels: 1 (grey) or 3 (RGB).
    """

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)
        )
        plan = ((16, 24, 2), (24, 24, 1), (24, 40, 2), (40, 40, 1), (40, 64, 2), (64, 64, 1))
        self.blocks = nn.Sequential(*(_Inverted(*block) for block in plan))
        self.top = nn.Sequential(
            nn.Conv2d(64, 128, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU(inplace=True)
        )
        self.fc = nn.Linear(128, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, C, H, W) -> (N, num_classes)
        x = self.top(self.blocks(self.stem(x)))
        return self.fc(x.mean(dim=(2, 3)))


def _small_gn(num_classes: int, in_channels: int) -> nn.Module:
    """`small` without batch norm: groups of eight channels (Wu & He 2018)."""
    return SmallNet(num_classes, in_channels, norm=lambda width: nn.GroupNorm(width // 8, width))


def _resnet18_32(num_classes: int, in_channels: int) -> nn.Module:
    """torchvision's ResNet-18 with the stem for 32x32 images: 3x3 convolution, stride 1, no max pooling (11 M parameters)."""
    from torchvision.models import resnet18  # slow to import

    net: nn.Module = resnet18(num_classes=num_classes)
    net.conv1 = nn.Conv2d(in_channels, 64, 3, 1, 1, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    net.maxpool = nn.Identity()
    return net


BUILT_IN_NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "small": SmallNet,
    "mobile": MobileNet,
    "small-gn": _small_gn,
    "resnet18-32": _resnet18_32,
}
"""Name in `--arch` -> network; for images of about 32x32, normalised to [-1, 1]."""
