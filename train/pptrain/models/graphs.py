"""CUDA graphs of the network. A GPU computes a small network faster than Python can launch its kernels one by one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

_log = logging.getLogger(__name__)


class Graphs:
    """Records the forward and backward pass of a network once for every shape of input, and replays the recording.

    A recording has one set of buffers. Therefore only the first pass of each batch is replayed, and its backward pass must end before
    the next batch begins; further passes of a batch run without graphs. The mode of batch norm and the like are recorded with the
    first pass, so they must be the same in every step.
    """

    def __init__(self) -> None:
        self._recorded: dict[Any, Callable[[Tensor], Any]] = {}
        self._is_first = False

    def next_batch(self) -> None:
        """Announce that the next pass is the first one of a batch."""
        self._is_first = True

    def take_first(self, module: nn.Module) -> bool:
        """Whether this pass should be replayed; True at most once per batch."""
        first = self._is_first and module.training and torch.is_grad_enabled()
        if first:
            self._is_first = False
        return first

    def run(self, name: str, function: Callable[[Tensor], Any], owner: nn.Module, x: Tensor) -> Any:
        """`function(x)`, a tensor or tuple of tensors computed with the parameters of `owner`.

        A function that CUDA graphs cannot record is called as it is, after a warning.
        """
        key = name, x.shape, x.dtype, x.stride()
        if key not in self._recorded:
            try:
                self._recorded[key] = record(function, owner, x)
            except RuntimeError as error:
                reason = str(error).partition("\n")[0]
                _log.warning("CUDA graphs cannot record this network (%s); it runs without them", reason)
                self._recorded[key] = function
        return self._recorded[key](x)


def record(function: Callable[[Tensor], Any], owner: nn.Module, x: Tensor) -> Callable[[Tensor], Any]:
    """`function` as a CUDA graph for inputs like `x`; buffers (running statistics) and random states do not change."""
    buffers = [(buffer, buffer.clone()) for buffer in owner.buffers()]
    on = x.device.type
    # Autocast caches cast weights; a recording would keep using the cached ones after the weights have changed.
    cast = partial(torch.autocast, on, torch.get_autocast_dtype(on), torch.is_autocast_enabled(on))
    # The recording keeps the nodes that accumulate gradients on its own stream. Autograd waits for that stream, and would warn.
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
    """A function of a network as a module, so that the gradients of the parameters of the network are recorded."""

    def __init__(self, function: Callable[[Tensor], Any], owner: nn.Module) -> None:
        super().__init__()
        self.owner, self._function = owner, function
        self.train(owner.training)

    def forward(self, x: Tensor) -> Any:
        return self._function(x)
