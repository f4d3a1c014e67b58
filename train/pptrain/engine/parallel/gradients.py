"""Means of the gradients over all processes, sent bucket by bucket as the backward pass makes them.

DistributedDataParallel does the same through its forward pass, of which a semi-supervised step has several with batch norm in different
modes; this looks at gradients only. A parameter is ready when its gradient has been accumulated, which happens once a backward pass
however many forward passes it was part of.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

_BUCKET_BYTES = 25 << 20  # as DistributedDataParallel


class Mean:
    """Tensors of one type on the way to their mean over all processes, in one flat buffer."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = tensors
        self._flat = torch.cat([tensor.flatten() for tensor in tensors])
        self._work = dist.all_reduce(self._flat, async_op=True)

    def finish(self) -> None:
        """Returns when the tensors are the mean."""
        self._work.wait()
        self._flat /= dist.get_world_size()
        parts = self._flat.split([tensor.numel() for tensor in self._tensors])
        for tensor, mean in zip(self._tensors, parts, strict=True):
            tensor.copy_(mean.view_as(tensor))


class Gradients:
    """The gradients of a model, averaged over `processes`.

    Buckets are sent in one order everywhere, the last parameters first since the backward pass comes to them first. Parameters that got no
    gradient keep none; they must be the same ones in every process, and the next step does not wait for them.

    Args:
        processes: with 1 nothing is done.
        bucket_bytes: of gradients are sent at once.
    """

    def __init__(self, model: nn.Module, processes: int, bucket_bytes: int = _BUCKET_BYTES) -> None:
        self.processes = processes
        parameters = [p for p in model.parameters() if p.requires_grad] if processes > 1 else []
        self._buckets = cut(parameters[::-1], bucket_bytes)
        # (bucket, position) of what got no gradient in the step before
        self._absent: set[tuple[int, int]] = set()
        self._missing: list[set[int]] = []
        self._late: list[Tensor] = []
        self._sent: list[Mean | None] = []  # None of a bucket without gradients
        self._armed = False
        for number, bucket in enumerate(self._buckets):
            for position, parameter in enumerate(bucket):
                parameter.register_post_accumulate_grad_hook(partial(self._ready, number, position))

    def expect(self) -> None:
        """Called before the last backward pass of a step: what it makes is sent."""
        self._missing = [
            {position for position in range(len(bucket)) if (number, position) not in self._absent}
            for number, bucket in enumerate(self._buckets)
        ]
        self._armed = self.processes > 1

    def finish(self) -> None:
        """Called after it: sends what is left, and returns when every gradient is the mean."""
        if not self._armed:
            return
        for bucket in self._buckets[len(self._sent) :]:
            self._send(bucket)
        if self._late:
            self._send(self._late)
        for mean in self._sent:
            if mean is not None:
                mean.finish()
        self._absent = {
            (number, position)
            for number, bucket in enumerate(self._buckets)
            for position, parameter in enumerate(bucket)
            if parameter.grad is None
        }
        self._sent, self._late, self._armed = [], [], False

    @property
    def under_way(self) -> int:
        """Buckets that were sent and not yet waited for."""
        return len(self._sent)

    def _ready(self, number: int, position: int, parameter: Tensor) -> None:
        if not self._armed:
            return
        if number < len(self._sent) and (number, position) in self._absent:
            self._late.append(parameter)  # nobody waited for it
        self._missing[number].discard(position)
        while len(self._sent) < len(self._buckets) and not self._missing[len(self._sent)]:
            self._send(self._buckets[len(self._sent)])

    def _send(self, parameters: Sequence[Tensor]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        self._sent.append(Mean(gradients) if gradients else None)


_AnyTensor = TypeVar("_AnyTensor", bound=Tensor)


def cut(tensors: Iterable[_AnyTensor], most: int = _BUCKET_BYTES) -> list[list[_AnyTensor]]:
    """Neighbours of one type, up to `most` bytes together."""
    buckets: list[list[_AnyTensor]] = []
    size = 0
    for tensor in tensors:
        count = tensor.numel() * tensor.element_size()
        if not buckets or size + count > most or buckets[-1][0].dtype is not tensor.dtype:
            buckets.append([])
            size = 0
        buckets[-1].append(tensor)
        size += count
    return buckets
