"""Distillation from a teacher that knows the target's classes: the source classifier fine-tuned on the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from pptrain.config import Amount, PositiveAmount
from pptrain.methods import losses
from pptrain.methods.base import Batch, Losses, Method


@dataclass
class Distillation(Method):
    """A student and a teacher look at the same view."""

    needs_teacher: ClassVar[bool] = True

    def _teach(self, x: Tensor) -> Tensor:
        assert self.context.teacher is not None
        return self.context.teacher(x)


@dataclass
class SoftTarget(Distillation):
    """Soft targets (Hinton et al. 2015): alpha * CE + (1 - alpha) * T^2 * KL(teacher(T) || student(T)).

    Options:
        alpha, temperature: 0.1 and 4 are the habit on small images, 0.5 and 1 on ImageNet.
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
        weight: lambda, for a mean over the batch and the classes.
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
