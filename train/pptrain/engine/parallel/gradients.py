"""Means of the gradients over all processes, sent bucket by bucket as the backward pass makes them.

DistributedDataParallel does the same through its forward pass, of which a semi-supervised step has several with batch norm in different
modes; this looks at gradients only. A parameter is ready when its gradient has been accumulated, which happens once a backward pass
however many forward passes it was part of.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn

_BUCKET_BYTES = 25 << 20  # as DistributedDataParallel


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
        self._buckets = _cut(parameters[::-1], bucket_bytes)
        self._absent: set[tuple[int, int]] = (
            set()
        )  # (bucket, position) of what got no gradient in the step before
        self._missing: list[set[int]] = []
        self._late: list[Tensor] = []
        self._sent: list[tuple[list[Tensor], Tensor, dist.Work | None]] = []
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
        for gradients, flat, work in self._sent:
            if work is not None:
                work.wait()
            flat /= self.processes
            parts = flat.split([g.numel() for g in gradients])
            for gradient, mean in zip(gradients, parts, strict=True):
                gradient.copy_(mean.view_as(gradient))
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
        flat = torch.cat([g.flatten() for g in gradients]) if gradients else torch.empty(0)
        work = dist.all_reduce(flat, async_op=True) if gradients else None
        self._sent.append((gradients, flat, work))


def _cut(parameters: list[nn.Parameter], most: int) -> list[list[nn.Parameter]]:
    """Neighbours of one type, up to `most` bytes together."""
    buckets: list[list[nn.Parameter]] = []
    size = 0
    for parameter in parameters:
        count = parameter.numel() * parameter.element_size()
        if not buckets or size + count > most or buckets[-1][0].dtype is not parameter.dtype:
            buckets.append([])
            size = 0
        buckets[-1].append(parameter)
        size += count
    return buckets
