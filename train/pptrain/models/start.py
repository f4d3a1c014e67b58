"""The network that a run starts from: with the weights of the initial model, or from scratch."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ppcore.classifiers import (
    Classifier,
    ClassifierSpec,
    build,
    head_names,
    linear_map,
    load_weights,
    require_head,
    usual_input,
)
from ppcore.errors import UserError, first_line

SMALL_SIDE = 64
_CROP_SHARE = 224 / 256


def make_spec(
    arch: str, class_names: tuple[str, ...], channels: int, resolution: int, source: Classifier | None
) -> ClassifierSpec:
    """The description of the new classifier; its normalisation is that of `source`, if there is one."""
    resize = resolution if resolution <= SMALL_SIDE else round(resolution / _CROP_SHARE)
    if source is not None:
        mean, std = source.spec.mean, source.spec.std
    else:
        usual = usual_input(arch, channels)
        mean, std = usual.mean, usual.std
    return ClassifierSpec(arch, class_names, channels, resolution, resize, mean, std)


def make_network(
    spec: ClassifierSpec, source: Classifier | None, where: str, *, needs_head: bool = False
) -> tuple[nn.Module, str]:
    """(network, text for the user on where its weights come from).

    The backbone has the weights of `source`, and so has the head if the classes are the same. All other weights are random: set the
    torch seed before the call.

    Args:
        source: the initial model, or None to start from scratch.
        where: name of the initial model, for messages.
        needs_head: whether the run, or a later one that starts from its model, must know the head of the network.

    Raises:
        UserError: the weights do not fit, the architecture does not take images of this size or gives no logits for them, its state
            dict has values that are no tensors, or it has no known head and needs one.
    """
    net = build(spec.arch, spec.num_classes, spec.channels)
    _try_forward(net.eval(), spec)  # lazy modules get their shapes here
    _try_forward(copy.deepcopy(net).train(), spec)  # a copy, because running statistics change
    _require_tensors(net, spec.arch)
    kept_head = source is not None and source.spec.class_names == spec.class_names
    if needs_head or not (source is None or kept_head):
        require_head(net, _noise(spec))
    net.train()
    if source is None:
        return net, "from scratch"
    weights = dict(source.net.state_dict())
    if not kept_head:
        fresh = tuple(f"{name}." for name in head_names(net))
        weights.update({name: t for name, t in net.state_dict().items() if name.startswith(fresh)})
    load_weights(net, weights, where)
    return net, f"from {where}, {'head kept' if kept_head else f'new head for {spec.num_classes} classes'}"


def make_source_head(
    net: nn.Module, class_names: tuple[str, ...], source: Classifier | None
) -> tuple[nn.Linear, str]:
    """(a head over the source classes on the features of `net`, text for the user on where its weights come from).

    Classes that the head of the initial model `source` has, such as after pseudo pre-training, get its weights; the others get random
    ones: set the torch seed before the call.
    """
    head = nn.Linear(linear_map(net)[0].shape[1], len(class_names))
    known = {} if source is None else {name: k for k, name in enumerate(source.spec.class_names)}
    mine = [k for k, name in enumerate(class_names) if name in known]
    if source is not None and mine:
        weight, bias = linear_map(source.net)
        rows = [known[class_names[k]] for k in mine]
        with torch.no_grad():
            head.weight[mine], head.bias[mine] = weight[rows], bias[rows]
    return (
        head,
        f"source head: {len(mine)} of {len(class_names)} classes start from the initial model, the others from random weights",
    )


def _noise(spec: ClassifierSpec) -> torch.Tensor:
    """Two different images for the network, always the same."""
    shape = (2, spec.channels, spec.resolution, spec.resolution)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _try_forward(net: nn.Module, spec: ClassifierSpec) -> None:
    """Run two images through the network, to report a mismatch now in one sentence and not later as a traceback."""
    try:
        with torch.no_grad():
            logits = net(_noise(spec))
    except Exception as error:  # a user's own network may raise anything
        usual = "" if ":" in spec.arch else f" (designed for {usual_input(spec.arch, 3).resolution} pixels)"
        raise UserError(
            f"{spec.arch} does not take {spec.channels}x{spec.resolution}x{spec.resolution} images "
            f"({first_line(error)}); change --resolution or --channels{usual}"
        ) from error
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, spec.num_classes):
        found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise UserError(
            f"{spec.arch} gives {found} for 2 images{' in training' if net.training else ''}, expected logits of shape "
            f"(2, {spec.num_classes}); return the logits alone"
        )


def _require_tensors(net: nn.Module, arch: str) -> None:
    """Refuse a network whose state no file of weights could hold, such as one with `get_extra_state`."""
    for name, value in net.state_dict().items():
        if not isinstance(value, torch.Tensor):
            raise UserError(
                f"the state dict of {arch} has a value of type {type(value).__name__} under {name}, expected tensors alone; "
                f"let the network keep it as a buffer, or not at all"
            )
