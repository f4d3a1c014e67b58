"""Untrained networks by name: built in, from torchvision or timm, or a callable of the user."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from torch import nn

from ppcore.classifiers.networks import BUILT_IN_NETWORKS
from ppcore.errors import UserError

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_IMAGENET_GREY = (0.449,), (0.226,)  # mean over the three channels

Statistics = tuple[float, ...]
"""One value for each channel, for images scaled to [0, 1]."""


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


def usual_input(arch: str, channels: int) -> tuple[int, Statistics, Statistics]:
    """(side in pixels, mean, std) of the usual input of an architecture."""
    if arch in BUILT_IN_NETWORKS:
        return 32, (0.5,) * channels, (0.5,) * channels
    return 224, *(_IMAGENET if channels == 3 else _IMAGENET_GREY)


def import_callable(name: str) -> Callable[..., Any]:
    """Import `package.module:attribute`; modules in the working directory can be imported, too.

    Raises:
        UserError: there is no such module or attribute, or it cannot be called.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
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
    net = torchvision.models.get_model(name, weights=None, num_classes=num_classes)
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
    if not timm.is_model(name.split(".")[0]):
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
