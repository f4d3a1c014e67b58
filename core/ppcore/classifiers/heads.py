"""The head of a network: the layers that compute its logits. Their inputs are the features."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from ppcore.errors import UserError

HEADS = ("fc", "classifier", "head", "heads")
"""Names of the module that holds the head, in torchvision and in most other networks."""

HeadLayer = nn.Linear | nn.Conv2d


def find_heads(net: nn.Module) -> list[HeadLayer]:
    """The linear layers (or 1x1 convolutions) that compute the logits; several in a network that averages their outputs.

    A network with a method `get_classifier`, like every network of timm, names them itself. In any other network it is the last
    linear layer of the modules in `HEADS`, or else of the whole network; 1x1 convolutions count in a network without linear layers.

    Raises:
        UserError: the network has no such layer.
    """
    get_classifier = getattr(net, "get_classifier", None)
    if callable(get_classifier):
        found = get_classifier()
        parts = [found] if isinstance(found, nn.Module) else [part for part in found if part is not None]
        layers = [layer for part in parts for layer in _layers(part.modules())]
        heads = [layer for layer in layers if _outputs(layer) == _outputs(layers[-1])]
    else:
        named = [m for name, m in net.named_modules() if name.split(".")[0] in HEADS]
        heads = (_layers(named) or _layers(net.modules()))[-1:]
    if not heads:
        raise UserError(
            f"{type(net).__name__} has no linear layer to serve as classification head; end it in nn.Linear, or give it a method "
            "get_classifier that returns its last linear layer"
        )
    return heads


def head_names(net: nn.Module) -> list[str]:
    """The names of the layers of :func:`find_heads`; a layer that the network registers twice has two names."""
    heads = {id(layer) for layer in find_heads(net)}
    return [name for name, module in net.named_modules(remove_duplicate=False) if id(module) in heads]


def run_with_features(net: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(features (B, D), logits (B, K)) of one pass. D is the sum of the widths of the heads.

    The features are the inputs of the heads side by side, averaged over positions or tokens where an input has them.
    """
    heads = find_heads(net)
    caught: dict[int, torch.Tensor] = {}
    handles = [layer.register_forward_pre_hook(lambda m, x: caught.update({id(m): x[0]})) for layer in heads]
    try:
        logits = net(x)
    finally:
        for handle in handles:
            handle.remove()
    return torch.cat([_pooled(caught[id(layer)], layer) for layer in heads], 1), logits


def linear_map(net: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """(weight (K, D), bias (K,)) that map the features of `net` to its logits: the mean of its heads."""
    heads = find_heads(net)
    weight = torch.cat([layer.weight.flatten(1) for layer in heads], 1) / len(heads)
    biases = [layer.bias for layer in heads if layer.bias is not None]
    bias = torch.stack(biases).sum(0) if biases else weight.new_zeros(weight.shape[0])
    return weight.detach(), bias.detach() / len(heads)


def require_head(net: nn.Module, images: torch.Tensor) -> None:
    """Check that nothing of an image reaches the logits beside the heads: with heads that give zeros, all images have equal logits.

    Args:
        images: float (N, C, R, R), different images, normalised.

    Raises:
        UserError: the network has no head, or another layer takes part in the logits.
    """
    handles = [
        layer.register_forward_hook(lambda _m, _x, out: torch.zeros_like(out)) for layer in find_heads(net)
    ]
    try:
        with torch.no_grad():
            logits = net(images)
    finally:
        for handle in handles:
            handle.remove()
    if not torch.allclose(logits, logits[:1].expand_as(logits), atol=0, equal_nan=True):
        raise UserError(
            f"the logits of {type(net).__name__} do not come from its layer {' and '.join(head_names(net))} alone; give it a "
            "method get_classifier that returns the layers that compute them"
        )


def _layers(modules: Iterable[nn.Module]) -> list[HeadLayer]:
    """The linear layers among `modules`; if there are none, the 1x1 convolutions."""
    linear: list[HeadLayer] = []
    convolutions: list[HeadLayer] = []
    for module in modules:
        if isinstance(module, nn.Linear):
            linear.append(module)
        elif isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1:
            convolutions.append(module)
    return linear or convolutions


def _outputs(layer: HeadLayer) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def _pooled(x: torch.Tensor, layer: HeadLayer) -> torch.Tensor:
    """The input of a head -> (B, D): its mean over positions or tokens, if it has them."""
    if isinstance(layer, nn.Conv2d):
        return x.flatten(2).mean(2)
    return x.flatten(1, -2).mean(1) if x.ndim > 2 else x
