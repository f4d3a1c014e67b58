"""The optimiser, the schedule of its learning rate, and the averaged weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from pptrain.config import OptimConfig


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW; biases and parameters of normalisation layers are not decayed."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    free = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    if config.name == "sgd":
        return torch.optim.SGD(
            groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0, fused=True
        )
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.momentum, 0.999), fused=True)


def learning_rate(config: OptimConfig, step: int) -> float:
    """The learning rate of step number `step` of `config.steps`."""
    return config.lr * _rate_factor(config, step)


def _rate_factor(config: OptimConfig, step: int) -> float:
    warm = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    done = step / max(config.steps, 1)
    if config.schedule == "cosine":
        return warm * 0.5 * (1.0 + math.cos(math.pi * done))
    if config.schedule == "steps":
        return warm * config.gamma ** sum(done >= milestone for milestone in config.milestones)
    return warm


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


@torch.no_grad()
def average_into(average: nn.Module, model: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * model for parameters; buffers (statistics of batch norm) are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1.0 - decay)
    pairs = list(zip(average.buffers(), model.buffers(), strict=True))
    for dtype in {buffer.dtype for _, buffer in pairs}:  # one kernel per type, not one per buffer
        kept, now = zip(*(pair for pair in pairs if pair[1].dtype == dtype), strict=True)
        torch._foreach_copy_(kept, now)


class Ema:
    """A second copy of the model, averaged after every step.

    Args:
        decay: decay of the average; at step t it is min(decay, (1 + t) / (10 + t)), so that the initial weights soon have no
            influence. With 0 there is no average: `self.model` is the trained model itself.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.model = copy.deepcopy(model).requires_grad_(False).eval() if decay > 0 else model

    def update(self, model: nn.Module) -> None:
        """Add the weights of `model` after a step to the average."""
        self.steps += 1
        if self.decay > 0:
            average_into(self.model, model, min(self.decay, (1 + self.steps) / (10 + self.steps)))
