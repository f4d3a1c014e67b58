"""Methods that look at one view of the unlabelled images: entropy minimisation and pseudo-labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from pptrain.config import Amount
from pptrain.methods import losses
from pptrain.methods.base import STRONG, WEAK, Batch, Losses, SemiSupervised


@dataclass
class EntMin(SemiSupervised):
    """Entropy minimisation (Grandvalet & Bengio 2004)."""

    lambda_u: Amount = 0.1

    views: ClassVar = (WEAK,)

    def step(self, model: nn.Module, batch: Batch, progress: float) -> Losses:
        z, u = self.forward(model, batch)
        supervised = losses.cross_entropy(z, batch.y)
        entropy = losses.entropy_minimization(u[WEAK])
        return self.combine(supervised, entropy)


@dataclass
class PseudoLabel(SemiSupervised):
    """Pseudo-Label (Lee 2013).

    Options:
        threshold: smallest confidence of a pseudo-label.
        ramp: share of the training over which lambda_u rises linearly.
    """

    mu: Amount = 1.0
    threshold: Amount = 0.95
    ramp: Amount = 0.4

    views: ClassVar = (WEAK,)

    def step(self, model: nn.Module, batch: Batch, progress: float) -> Losses:
        z, u = self.forward(model, batch)
        supervised = losses.cross_entropy(z, batch.y)
        unlabeled = losses.pseudo_label(u[WEAK], self.threshold)
        return self.combine(supervised, unlabeled, losses.ramp(progress, self.ramp))


@dataclass
class SoftPseudoLabel(SemiSupervised):
    """The weak view's probabilities teach the strong view, without threshold or sharpening."""

    views: ClassVar = (WEAK, STRONG)

    def step(self, model: nn.Module, batch: Batch, progress: float) -> Losses:
        z, u = self.forward(model, batch, fixed=(WEAK,))
        supervised = losses.cross_entropy(z, batch.y)
        unlabeled = losses.soft_pseudo_label(u[STRONG], u[WEAK])
        return self.combine(supervised, unlabeled)
