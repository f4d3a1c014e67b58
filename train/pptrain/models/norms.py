"""Batch norm: without its running statistics, or with the statistics of all processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ppcore.errors import UserError


@contextmanager
def untracked(model: nn.Module) -> Iterator[None]:
    """Inside, batch norm layers in train mode normalise with the current batch and do not update their running statistics."""
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


def synchronise_batch_norm(net: nn.Module, arch: str) -> nn.Module:
    """`net` with every batch norm layer replaced by `torch.nn.SyncBatchNorm`; the names of its parameters stay the same.

    Raises:
        UserError: a layer computes more than batch norm (timm's BatchNormAct2d also applies an activation), which
            SyncBatchNorm would drop.
    """
    for module in net.modules():
        if isinstance(module, _BatchNorm) and type(module).forward is not _BatchNorm.forward:
            raise UserError(
                f"model.sync_batch_norm cannot be used with {arch}: torch.nn.SyncBatchNorm cannot replace its "
                f"{type(module).__name__} layers; set model.sync_batch_norm=false"
            )
    synchronised: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    return synchronised
