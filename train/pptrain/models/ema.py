"""Exponential moving average of the weights, which is what is evaluated and saved."""

from __future__ import annotations

import copy

import torch
from torch import nn


@torch.no_grad()
def average_into(average: nn.Module, model: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * model for parameters; buffers (batch norm's statistics) are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1.0 - decay)
    pairs = list(zip(average.buffers(), model.buffers(), strict=True))
    for dtype in {buffer.dtype for _, buffer in pairs}:  # one kernel for each, not for every buffer
        kept, now = zip(*(pair for pair in pairs if pair[1].dtype == dtype), strict=True)
        torch._foreach_copy_(kept, now)


class Ema:
    """A second copy of the model, averaged after every step.

    Args:
        decay: of the average in the long run; at step t it is min(decay, (1 + t) / (10 + t)), so that the first weights are
            soon forgotten. 0 keeps no average: `model` is then the trained model itself.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.model = copy.deepcopy(model).requires_grad_(False).eval() if decay > 0 else model

    def update(self, model: nn.Module) -> None:
        """Take in the model after a step."""
        self.steps += 1
        if self.decay > 0:
            average_into(self.model, model, min(self.decay, (1 + self.steps) / (10 + self.steps)))
