"""The network that a run starts from: with the weights of the initial model, or from scratch."""

from __future__ import annotations

import torch
from torch import nn

from ppcore.classifiers import Classifier, ClassifierSpec, build, find_head, load_weights, usual_input
from ppcore.errors import UserError

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
        _, mean, std = usual_input(arch, channels)
    return ClassifierSpec(arch, class_names, channels, resolution, resize, mean, std)


def make_network(spec: ClassifierSpec, source: Classifier | None, where: str) -> tuple[nn.Module, str]:
    """(network, text for the user on where its weights come from).

    The backbone has the weights of `source`, and so has the head if the classes are the same. All other weights are random: set the
    torch seed before the call.

    Args:
        source: the initial model, or None to start from scratch.
        where: name of the initial model, for messages.

    Raises:
        UserError: the weights do not fit, or the architecture does not take images of this size.
    """
    net = build(spec.arch, spec.num_classes, spec.channels)
    started = "from scratch"
    if source is not None:
        started = _start_from(net, source, spec.class_names, where)
    _try_forward(net, spec)
    return net, started


def _start_from(net: nn.Module, source: Classifier, class_names: tuple[str, ...], where: str) -> str:
    weights = dict(source.net.state_dict())
    kept_head = source.spec.class_names == class_names
    if not kept_head:
        head, _ = find_head(net)
        own = net.state_dict()
        weights.update({name: own[name] for name in own if name.startswith(f"{head}.")})
    load_weights(net, weights, where)
    return f"from {where}, {'head kept' if kept_head else f'new head for {len(class_names)} classes'}"


def make_source_head(
    net: nn.Module, class_names: tuple[str, ...], source: Classifier | None
) -> tuple[nn.Linear, str]:
    """(a head over the source classes on the features of `net`, text for the user on where its weights come from).

    Classes that the head of the initial model `source` has, such as after pseudo pre-training, get its weights; the others get random
    ones: set the torch seed before the call.
    """
    head = nn.Linear(find_head(net)[1].in_features, len(class_names))
    known = {} if source is None else {name: k for k, name in enumerate(source.spec.class_names)}
    mine = [k for k, name in enumerate(class_names) if name in known]
    if source is not None and mine:
        _, old = find_head(source.net)
        rows = [known[class_names[k]] for k in mine]
        with torch.no_grad():
            head.weight[mine] = old.weight[rows]
            if old.bias is not None:
                head.bias[mine] = old.bias[rows]
    return (
        head,
        f"source head: {len(mine)} of {len(class_names)} classes start from the initial model, the others from random weights",
    )


def _try_forward(net: nn.Module, spec: ClassifierSpec) -> None:
    """Run two blank images through the network, to report a mismatch now in one sentence and not later as a traceback."""
    net.eval()
    images = torch.zeros(2, spec.channels, spec.resolution, spec.resolution)
    try:
        with torch.no_grad():
            logits = net(images)
    except Exception as error:  # a user's own network may raise anything
        raise UserError(
            f"{spec.arch} does not take {spec.channels}x{spec.resolution}x{spec.resolution} images "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); change --resolution or --channels"
        ) from error
    finally:
        net.train()
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, spec.num_classes):
        found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise UserError(
            f"{spec.arch} gives {found} for 2 images, expected logits of shape (2, {spec.num_classes})"
        )
