"""Methods that look at one view of the unlabelled images: entropy minimisation and pseudo-labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from pptrain.config import Amount
from pptrain.methods import losses
from pptrain.methods.base import Batch, Losses, SemiSupervised


@dataclass
class EntMin(SemiSupervised):
    """Entropy minimisation (Grandvalet & Bengio 2004)."""

    lambda_u: Amount = 0.1

    views: ClassVar[dict[str, str]] = {"u_weak": "weak"}

    def step(self, model: nn.Module, batch: Batch, progress: float) -> Losses:
        z, u = self.forward(model, batch)
        supervised = losses.cross_entropy(z, batch["y"])
        entropy = losses.entropy_minimization(u["u_weak"])
        return {
            "loss": supervised + self.lambda_u * entropy,
            "loss_labeled": supervised,
            "loss_unlabeled": entropy,
        }


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

    views: ClassVar[dict[str, str]] = {"u_weak": "weak"}

    def step(self, model: nn.Module, batch: Batch, progress: float) -> Losses:
        z, u = self.forward(model, batch)
        supervised = losses.cross_entropy(z, batch["y"])
        unlabeled = losses.pseudo_label(u["u_weak"], self.threshold)
        weight = self.lambda_u * losses.ramp(progress, self.ramp)
        return {
            "loss": supervised + weight * unlabeled,
            "loss_labeled": supervised,
            "loss_unlabeled": unlabeled,
        }


@dataclass
class SoftPseudoLabel(SemiSupervised):
    """The weak view's probabilities teach the strong view, without threshold or sharpening."""

    views: ClassVar[dict[str, str]] = {"u_weak": "weak", "u_strong": "strong"}

    def step(self, model: nn.Module, batch: Batch, progress: float) -> Losses:
        z, u = self.forward(model, batch, fixed=("u_weak",))
        supervised = losses.cross_entropy(z, batch["y"])
        unlabeled = losses.soft_pseudo_label(u["u_strong"], u["u_weak"])
        return {
            "loss": supervised + self.lambda_u * unlabeled,
            "loss_labeled": supervised,
            "loss_unlabeled": unlabeled,
        }
