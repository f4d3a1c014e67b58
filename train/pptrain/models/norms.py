"""Batch norm's ways: without running statistics, by a part of the batch, over all processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def untracked(model: nn.Module) -> Iterator[None]:
    """Batch norm normalises by the batch at hand and leaves its running statistics alone."""
    layers = [
        m for m in model.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats
    ]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


@contextmanager
def by_first(model: nn.Module, count: int) -> Iterator[None]:
    """Batch norm normalises a whole batch by the statistics of its first `count` images, which alone enter the running ones.

    Running averages in their place lag behind the weights, and weights that learn through them come to rely on the lag: when the
    learning rate falls, the averages catch up and the network breaks. So does leaving the statistics out of the gradient.
    """
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    for layer in layers:
        layer.forward = partial(_normalize, layer, count)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


class SyncedNorm(_BatchNorm):
    """A batch norm layer whose batch is that of all processes, each with as many images; evaluated as any other.

    PyTorch's own works on CUDA only, and knows no statistics of a part of the batch.
    """

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - the name is PyTorch's
        return

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return _normalize(self, input.shape[0], input) if self.training else super().forward(input)


def synced(model: nn.Module) -> None:
    """Make every batch norm layer inside `model` a :class:`SyncedNorm`; the names of its parameters stay."""
    for parent in list(model.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, _BatchNorm) and not isinstance(layer, SyncedNorm):
                new = SyncedNorm(
                    layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats
                )
                new.load_state_dict(layer.state_dict())
                setattr(parent, name, new.train(layer.training))


def _over_all(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor, int]:
    """(mean, variance (C,) of all processes' values from those of each one's; how many processes), with gradients."""
    processes = dist.get_world_size()
    mean, square = all_reduce(torch.stack([mean, var + mean.square()])).div(processes).unbind()
    return mean, square - mean.square(), processes


def _normalize(layer: _BatchNorm, images: int, x: Tensor) -> Tensor:
    """(B, C, ...) -> (B, C, ...), by the statistics of the first `images`."""
    shape = (1, -1, *(1,) * (x.ndim - 2))
    first = x[:images].float()
    var, mean = torch.var_mean(first, dim=[0, *range(2, x.ndim)], correction=0)
    count = first.numel() // first.shape[1]
    if isinstance(layer, SyncedNorm):
        mean, var, processes = _over_all(mean, var)
        count *= processes
    if layer.track_running_stats:
        _follow(layer, mean.detach(), var.detach(), count)
    scale = torch.rsqrt(var + layer.eps)
    if layer.affine:
        scale = scale * layer.weight
    shift = -mean * scale
    if layer.affine:
        shift = shift + layer.bias
    return (x * scale.view(shape) + shift.view(shape)).to(x.dtype)


def _follow(layer: _BatchNorm, mean: Tensor, var: Tensor, count: int) -> None:
    """Update the running statistics as a training pass over `count` values a channel does."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    assert layer.num_batches_tracked is not None
    layer.num_batches_tracked += 1
    share = 1.0 / layer.num_batches_tracked.float() if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean, share)
    layer.running_var.lerp_(var * (count / max(count - 1, 1)), share)
