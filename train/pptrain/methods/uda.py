"""Unsupervised Data Augmentation, the paper's choice for P-SSL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from pptrain.config import Amount, PositiveAmount
from pptrain.methods import losses
from pptrain.methods.base import STRONG, WEAK, Batch, Losses, SemiSupervised


@dataclass
class Uda(SemiSupervised):
    """UDA (Xie et al. 2020).

    Options:
        threshold: an unlabelled image counts if the largest probability of its weak view is above it; 0 keeps all.
        temperature: divides the logits of the weak view, which are the target; below 1 sharpens.
        tsa: schedule of training signal annealing of the labelled loss: `none`, `linear`, `log` or `exp`.
    """

    threshold: Amount = 0.8
    temperature: PositiveAmount = 0.4
    tsa: Literal["none", "linear", "log", "exp"] = "none"

    views: ClassVar = (WEAK, STRONG)

    def step(self, model: nn.Module, batch: Batch, progress: float) -> Losses:
        z, u = self.forward(model, batch, fixed=(WEAK,))
        if self.tsa == "none":
            supervised = losses.cross_entropy(z, batch.y)
        else:
            limit = losses.tsa_threshold(progress, self.context.num_classes, self.tsa)
            supervised = losses.tsa_cross_entropy(z, batch.y, limit)
        unlabeled, kept = losses.uda(
            u[STRONG], u[WEAK], threshold=self.threshold, temperature=self.temperature
        )
        return self.combine(supervised, unlabeled, kept=kept)
