"""Methods for labelled images alone: cross-entropy, and distillation from a teacher that knows the classes of the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pptrain.config import Amount, PositiveAmount
from pptrain.methods import losses
from pptrain.methods.base import Batch, Losses, Method


@dataclass
class Supervised(Method):
    """Cross-entropy.

    Options:
        label_smoothing: share of the target spread over all classes (Szegedy et al. 2016).
        mixup, cutmix: alpha of the Beta distribution (Zhang et al. 2018; Yun et al. 2019); 0 is off. With both, each step
            uses one of them at random. Each of several processes mixes its own images.
    """

    label_smoothing: Amount = 0.0
    mixup: Amount = 0.0
    cutmix: Amount = 0.0

    def step(self, model: nn.Module, batch: Batch, progress: float) -> Losses:
        x, y = batch.x, batch.y
        use_cutmix = self.cutmix > 0 and (self.mixup <= 0 or bool(torch.rand(()) < 0.5))
        if use_cutmix:
            x, y = cutmix(x, y, self.cutmix, self.context.num_classes)
        elif self.mixup > 0:
            x, y = mixup(x, y, self.mixup, self.context.num_classes)
        return {"loss": losses.cross_entropy(model(x), y, label_smoothing=self.label_smoothing)}


@dataclass
class Distillation(Method):
    """The student and the teacher get the same view."""

    needs_teacher: ClassVar[bool] = True

    def _teach(self, x: Tensor) -> Tensor:
        assert self.context.teacher is not None
        return self.context.teacher(x)


@dataclass
class SoftTarget(Distillation):
    """Soft targets (Hinton et al. 2015): alpha * CE + (1 - alpha) * T^2 * KL(teacher(T) || student(T)).

    Options:
        alpha, temperature: 0.1 and 4 are common for small images, 0.5 and 1 for ImageNet.
    """

    alpha: Amount = 0.1
    temperature: PositiveAmount = 4.0

    def step(self, model: nn.Module, batch: Batch, progress: float) -> Losses:
        z = model(batch.x)
        supervised = losses.cross_entropy(z, batch.y)
        distilled = losses.soft_target(z, self._teach(batch.x), self.temperature)
        loss = self.alpha * supervised + (1 - self.alpha) * distilled
        return {"loss": loss, "loss_labeled": supervised, "loss_distill": distilled}


@dataclass
class LogitMatching(Distillation):
    """Logit matching (Ba & Caruana 2014): CE + lambda * MSE of the logits.

    Options:
        weight: lambda; the MSE is a mean over the batch and the classes.
    """

    weight: Amount = 1.0

    def step(self, model: nn.Module, batch: Batch, progress: float) -> Losses:
        z = model(batch.x)
        supervised = losses.cross_entropy(z, batch.y)
        distilled = losses.logit_matching(z, self._teach(batch.x))
        return {
            "loss": supervised + self.weight * distilled,
            "loss_labeled": supervised,
            "loss_distill": distilled,
        }


def mixup(x: Tensor, y: Tensor, alpha: float, num_classes: int) -> tuple[Tensor, Tensor]:
    """Convex combinations of pairs; y becomes probabilities (B, K)."""
    share = _beta(alpha)
    order = torch.randperm(x.shape[0]).to(x.device, non_blocking=True)
    target = torch.nn.functional.one_hot(y, num_classes).float()
    return x * share + x[order] * (1 - share), target * share + target[order] * (1 - share)


def cutmix(x: Tensor, y: Tensor, alpha: float, num_classes: int) -> tuple[Tensor, Tensor]:
    """A rectangle of every image replaced by another image's; y becomes probabilities (B, K) by area."""
    height, width = x.shape[-2:]
    side = (1.0 - _beta(alpha)) ** 0.5
    centre = torch.rand(2)
    top, bottom = _span(float(centre[0]), side, height)
    left, right = _span(float(centre[1]), side, width)
    order = torch.randperm(x.shape[0]).to(x.device, non_blocking=True)
    mixed = x.clone()
    mixed[..., top:bottom, left:right] = x[order, :, top:bottom, left:right]
    share = 1.0 - (bottom - top) * (right - left) / (height * width)
    target = torch.nn.functional.one_hot(y, num_classes).float()
    return mixed, target * share + target[order] * (1 - share)


def _span(centre: float, side: float, length: int) -> tuple[int, int]:
    low, high = round((centre - side / 2) * length), round((centre + side / 2) * length)
    return max(low, 0), min(high, length)


def _beta(alpha: float) -> float:
    return float(torch.distributions.Beta(alpha, alpha).sample())
