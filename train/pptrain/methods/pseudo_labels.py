"""Entropy minimisation, pseudo-labels, FixMatch and the methods that adapt its threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pptrain.config import Amount
from pptrain.methods import losses
from pptrain.methods.base import STRONG, WEAK, Batch, Context, Losses, SemiSupervised, gather_rows, own_rows


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
    """The strong view learns the probabilities of the weak view, without threshold or sharpening."""

    views: ClassVar = (WEAK, STRONG)

    def step(self, model: nn.Module, batch: Batch, progress: float) -> Losses:
        z, u = self.forward(model, batch, fixed=(WEAK,))
        supervised = losses.cross_entropy(z, batch.y)
        unlabeled = losses.soft_pseudo_label(u[STRONG], u[WEAK])
        return self.combine(supervised, unlabeled)


@dataclass
class FixMatch(SemiSupervised):
    """FixMatch (Sohn et al. 2020).

    Options:
        threshold: smallest confidence of a pseudo-label.
    """

    threshold: Amount = 0.95

    views: ClassVar = (WEAK, STRONG)

    def step(self, model: nn.Module, batch: Batch, progress: float) -> Losses:
        z, u = self.forward(model, batch, fixed=(WEAK,))
        unlabeled, kept = losses.fixmatch(u[STRONG], u[WEAK], self.limit(u[WEAK], batch))
        return self.combine(losses.cross_entropy(z, batch.y), unlabeled, kept=kept)

    def limit(self, z_w: Tensor, batch: Batch) -> float | Tensor:
        """The threshold of this step: one number, or one per class (K,)."""
        return self.threshold


@dataclass
class FlexMatch(FixMatch):
    """FlexMatch (Zhang et al. 2021): classes that are learnt less get a lower threshold. It stores the last confident
    prediction of every unlabelled image, by its position in the set."""

    def setup(self, context: Context) -> None:
        super().setup(context)
        samples = max(context.unlabeled_samples, 1)
        self.register("selected", torch.full((samples,), -1))
        self.register("counts", torch.tensor([samples] + [0] * context.num_classes))  # of -1, 0, 1, ...

    def limit(self, z_w: Tensor, batch: Batch) -> Tensor:
        selected, counts = self.state["selected"], self.state["counts"]
        best, label = (gather_rows(x) for x in losses.confidence(z_w))
        index, order = gather_rows(batch.index).sort(stable=True)
        before = selected[index]
        after = torch.where(best[order] >= self.threshold, label[order], before)
        # An image may occur twice: its last row counts.
        last = torch.searchsorted(index, index, right=True) - 1
        changed = (last == torch.arange(len(index), device=index.device)).long()
        counts.index_add_(0, before + 1, -changed).index_add_(0, after + 1, changed)
        selected[index] = after[last]
        return losses.flexmatch_thresholds(counts[1:], counts[0], self.threshold)


@dataclass
class FreeMatch(SemiSupervised):
    """FreeMatch (Wang et al. 2023): thresholds from running means of the confidence.

    Options:
        momentum: share of a running mean that is kept per step.
        lambda_e: weight of the class-fairness term.
    """

    momentum: Amount = 0.999
    lambda_e: Amount = 0.01

    views: ClassVar = (WEAK, STRONG)

    def setup(self, context: Context) -> None:
        super().setup(context)
        uniform = 1.0 / context.num_classes
        self.register("threshold", torch.tensor(uniform))
        self.register("class_mean", torch.full((context.num_classes,), uniform))
        self.register("class_hist", torch.full((context.num_classes,), uniform))

    def step(self, model: nn.Module, batch: Batch, progress: float) -> Losses:
        z, u = self.forward(model, batch, fixed=(WEAK,))
        z_w, z_s = u[WEAK], u[STRONG]
        self._observe(z_w)
        limits = losses.freematch_thresholds(self.state["threshold"], self.state["class_mean"])
        unlabeled, kept = losses.fixmatch(z_s, z_w, limits)
        best, label = losses.confidence(z_w)
        fairness = losses.freematch_fairness(
            z_s, best >= limits[label], self.state["class_mean"], self.state["class_hist"]
        )
        supervised = losses.cross_entropy(z, batch.y)
        parts = self.combine(supervised, unlabeled, loss_fairness=fairness, kept=kept)
        return {**parts, "loss": parts["loss"] + self.lambda_e * fairness}

    def _observe(self, z_w: Tensor) -> None:
        """Update the running means with the batch of all processes, before the thresholds are computed from them."""
        if z_w.shape[0] == 0:
            return
        p = gather_rows(z_w).float().softmax(1)
        best, label = p.max(1)
        classes = torch.arange(p.shape[1], device=p.device)
        hist = (label[:, None] == classes).float().mean(0)  # F.one_hot looks at the labels
        for name, value in (("threshold", best.mean()), ("class_mean", p.mean(0)), ("class_hist", hist)):
            self.state[name] = torch.lerp(value, self.state[name], self.momentum)


@dataclass
class SoftMatch(SemiSupervised):
    """SoftMatch (Chen et al. 2023): every pseudo-label has a weight, a truncated Gaussian of its confidence.

    Options:
        n_sigma: width of the Gaussian: the weight is exp(-n_sigma^2 / 2) one standard deviation below the mean.
        momentum: share of the running mean and variance that is kept per step.
    """

    n_sigma: Amount = 2.0
    momentum: Amount = 0.999

    views: ClassVar = (WEAK, STRONG)

    def setup(self, context: Context) -> None:
        super().setup(context)
        uniform = 1.0 / context.num_classes
        self.register("mean", torch.tensor(uniform))
        self.register("variance", torch.tensor(1.0))
        self.register("class_mean", torch.full((context.num_classes,), uniform))

    def step(self, model: nn.Module, batch: Batch, progress: float) -> Losses:
        z, u = self.forward(model, batch, fixed=(WEAK,))
        weights = self._weigh(u[WEAK])
        unlabeled = losses.softmatch(u[STRONG], u[WEAK], weights)
        supervised = losses.cross_entropy(z, batch.y)
        return self.combine(supervised, unlabeled, kept=losses.batch_mean(weights))

    def _weigh(self, z_w: Tensor) -> Tensor:
        """Update the running statistics with the batch of all processes, then return the weights of this one's images, (N,)."""
        if z_w.shape[0] == 0:
            return z_w.detach().float().sum(1)
        p = gather_rows(z_w).float().softmax(1)
        self._average("class_mean", p.mean(0))
        best = losses.uniform_alignment(p, self.state["class_mean"]).max(1).values
        self._average("mean", best.mean())
        self._average("variance", best.var(unbiased=best.shape[0] > 1))
        weights = losses.softmatch_weights(best, self.state["mean"], self.state["variance"], self.n_sigma)
        return own_rows(weights)

    def _average(self, name: str, value: Tensor) -> None:
        self.state[name] = torch.lerp(value, self.state[name], self.momentum)
