"""CUDA graphs of the network: a small one is computed in less time than Python takes to ask for its kernels one by one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


class Graphs:
    """Forward and backward pass of a network recorded once for every shape of input, and replayed.

    A recording has one set of buffers, so only the first pass of a batch is replayed, and it must be through (forward and backward)
    before the next begins; further passes of a batch run as they are. All that surrounds the first pass, such as the mode of batch
    norm, is recorded with it and must be the same in every step.
    """

    def __init__(self) -> None:
        self._recorded: dict[Any, Callable[[Tensor], Any]] = {}
        self._is_first = False

    def next_batch(self) -> None:
        """The next pass is the first of a batch."""
        self._is_first = True

    def take_first(self, module: nn.Module) -> bool:
        """Whether a pass is to be replayed; True at most once a batch."""
        first = self._is_first and module.training and torch.is_grad_enabled()
        if first:
            self._is_first = False
        return first

    def run(self, name: str, function: Callable[[Tensor], Any], owner: nn.Module, x: Tensor) -> Any:
        """`function(x)`, a tensor or tuple of tensors computed with the parameters of `owner`.

        Raises:
            RuntimeError: the function does what cannot be recorded.
        """
        key = name, x.shape, x.dtype, x.stride()
        if key not in self._recorded:
            self._recorded[key] = record(function, owner, x)
        return self._recorded[key](x)


def record(function: Callable[[Tensor], Any], owner: nn.Module, x: Tensor) -> Callable[[Tensor], Any]:
    """`function` as a graph, on copies of `x`; buffers (running statistics) and random states are left as they were."""
    buffers = [(buffer, buffer.clone()) for buffer in owner.buffers()]
    on = x.device.type
    # A cache of cast weights would be recorded as the weights of today.
    cast = partial(torch.autocast, on, torch.get_autocast_dtype(on), torch.is_autocast_enabled(on))
    # The recording keeps the nodes that add up gradients, on the stream it was made on; autograd then waits for it, and would say so.
    torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
    with torch.random.fork_rng([x.device]), cast(cache_enabled=False):
        graphed = torch.cuda.make_graphed_callables(
            _Recordable(function, owner), (x.detach().clone(),), allow_unused_input=True
        )
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
    return graphed


class _Recordable(nn.Module):
    """A function of a network as a module, so that the gradients of the network's parameters are recorded."""

    def __init__(self, function: Callable[[Tensor], Any], owner: nn.Module) -> None:
        super().__init__()
        self.owner, self._function = owner, function
        self.train(owner.training)

    def forward(self, x: Tensor) -> Any:
        return self._function(x)
