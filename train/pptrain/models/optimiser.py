"""The optimiser and the schedule of its learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn

from pptrain.config import OptimConfig


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW; biases and norm parameters are not decayed."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    free = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
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
