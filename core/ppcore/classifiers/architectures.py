"""Untrained networks by name: built in, from torchvision or timm, or a callable of the user."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from ppcore.errors import UserError
from ppcore.images import CropMode, Interpolation
from ppcore.places import look_in_working_directory


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


Statistics = tuple[float, ...]
"""One value for each channel, for images scaled to [0, 1]."""


class UsualInput(NamedTuple):
    """The input that a network was designed for; the fields are those of :class:`ppcore.classifiers.ClassifierSpec`."""

    resolution: int
    resize: int
    mean: Statistics
    std: Statistics
    interpolation: Interpolation = "bicubic"
    crop_mode: CropMode = "center"


_IMAGENET = UsualInput(224, 256, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

# torchvision builds GoogLeNet and Inception with auxiliary classifiers, which only help to train very deep networks from scratch and
# which it drops from the published weights. Those weights belong to images that the network itself normalises once more.
_TORCHVISION: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True, "transform_input": True},
    "inception_v3": {"aux_logits": False, "init_weights": True, "transform_input": True},
    "vit_h_14": {"image_size": 518},
}


def build(arch: str, num_classes: int, channels: int = 3) -> nn.Module:
    """An untrained network with `num_classes` outputs and `channels` input channels.

    Args:
        arch: `small`, `mobile`, `small-gn` or `resnet18-32` (for about 32x32), a torchvision classification model, `timm/NAME`, or
            `module:callable`, which is called with num_classes and in_channels as far as it accepts them.

    Raises:
        UserError: unknown architecture, or one that does not accept this number of channels.
    """
    if arch in BUILT_IN_NETWORKS:
        return BUILT_IN_NETWORKS[arch](num_classes, channels)
    if ":" in arch:
        return _build_custom(arch, num_classes, channels)
    if arch.startswith("timm/"):
        return _build_timm(arch.removeprefix("timm/"), num_classes, channels)
    return _build_torchvision(arch, num_classes, channels)


def usual_input(arch: str, channels: int) -> UsualInput:
    """The usual input of an architecture: that of its published weights, if there are any. Nothing is downloaded."""
    if arch in BUILT_IN_NETWORKS:
        return UsualInput(32, 0, (0.5,) * channels, (0.5,) * channels)
    found = _IMAGENET
    if arch.startswith("timm/"):
        found = _usual_of_timm(arch.removeprefix("timm/"))
    elif ":" not in arch:
        import torchvision  # slow to import, not needed for built-in networks

        if arch in torchvision.models.list_models(module=torchvision.models):
            view = torchvision.models.get_model_weights(arch).DEFAULT.transforms()
            size, resize = view.crop_size[0], view.resize_size[0]
            found = UsualInput(size, resize, tuple(view.mean), tuple(view.std), view.interpolation.value)
    if channels == 3:
        return found
    grey = [(round(sum(values) / len(values), 6),) * channels for values in (found.mean, found.std)]
    return found._replace(mean=grey[0], std=grey[1])


def _usual_of_timm(name: str) -> UsualInput:
    try:
        import timm  # optional

        published = timm.get_pretrained_cfg(name)
    except (ImportError, RuntimeError):  # no timm, or no such weights: `build` says so
        published = None
    if published is None:
        return _IMAGENET
    data = timm.data.resolve_data_config(pretrained_cfg=published.to_dict())
    side = int(data["input_size"][-1])
    resize = math.floor(side / data["crop_pct"])
    mean, std = tuple(data["mean"]), tuple(data["std"])
    return UsualInput(side, resize, mean, std, data["interpolation"], data["crop_mode"])


def import_callable(name: str) -> Callable[..., Any]:
    """Import `package.module:attribute`; modules in the working directory can be imported, too.

    Raises:
        UserError: there is no such module or attribute, or it cannot be called.
    """
    look_in_working_directory()
    module, _, attribute = name.partition(":")
    try:
        value = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"cannot import {name!r} ({error}); expected package.module:callable on the Python path"
        ) from error
    if not callable(value):
        raise UserError(f"{name!r} is a {type(value).__name__}, expected a function or a class")
    return value


def _build_torchvision(name: str, num_classes: int, channels: int) -> nn.Module:
    import torchvision  # slow to import, not needed for built-in networks

    if name not in torchvision.models.list_models(module=torchvision.models):
        known = " or ".join(BUILT_IN_NETWORKS)
        raise UserError(
            f"unknown architecture {name!r}; expected {known}, a torchvision model such as resnet18, timm/NAME, or module:callable"
        )
    options = _TORCHVISION.get(name, {})
    if channels != 3 and "transform_input" in options:  # it is for RGB
        options = {**options, "transform_input": False}
    net = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)
    if channels != 3:
        _swap_first_convolution(net, channels)
    return net


def _build_custom(arch: str, num_classes: int, channels: int) -> nn.Module:
    factory = import_callable(arch)
    accepted = inspect.signature(factory).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    wanted = {"num_classes": num_classes, "in_channels": channels}
    net = factory(**{name: value for name, value in wanted.items() if takes_all or name in accepted})
    if not isinstance(net, nn.Module):
        raise UserError(
            f"{arch} returned a {type(net).__name__}, expected a torch.nn.Module; return the network"
        )
    return net


def _build_timm(name: str, num_classes: int, channels: int) -> nn.Module:
    try:
        import timm  # optional
    except ImportError as error:
        raise UserError(
            "timm architectures need the package timm; pip install 'pptransfer[train]'"
        ) from error
    try:
        known = timm.is_model(name.split(".")[0]) and (timm.get_pretrained_cfg(name) or True)
    except RuntimeError:  # NAME.TAG with a tag that no weights have
        known = False
    if not known:
        raise UserError(f"unknown architecture 'timm/{name}'; timm.list_models() lists them")
    return timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=channels)


def _swap_first_convolution(net: nn.Module, channels: int) -> None:
    """Replace the first convolution by one with another number of input channels; torchvision builds for RGB only."""
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == 3 and module.groups == 1:
            parent = net.get_submodule(name.rpartition(".")[0]) if "." in name else net
            fresh = nn.Conv2d(
                channels,
                module.out_channels,
                module.kernel_size,  # type: ignore[arg-type]
                module.stride,  # type: ignore[arg-type]
                module.padding,  # type: ignore[arg-type]
                module.dilation,  # type: ignore[arg-type]
                bias=module.bias is not None,
            )
            setattr(parent, name.rpartition(".")[2], fresh)
            return
    raise UserError(
        f"{type(net).__name__} has no RGB convolution to adapt to {channels} channels; use an architecture that takes them"
    )
