"""Consistency regularisation: between random views, with a mean teacher, in adversarial directions, of features."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pptrain.config import Amount
from pptrain.methods import losses
from pptrain.methods.base import OTHER, STRONG, WEAK, Batch, Context, Losses, SemiSupervised, randn_of_batch
from pptrain.models import Network, average_into, untracked


@dataclass
class PiModel(SemiSupervised):
    """Pi-model (Laine & Aila 2017): squared distance of the probabilities of two random views.

    Options:
        ramp: share of the training over which lambda_u rises linearly.
    """

    mu: Amount = 1.0
    lambda_u: Amount = 10.0
    ramp: Amount = 0.4

    views: ClassVar = (WEAK, OTHER)

    def step(self, model: nn.Module, batch: Batch, progress: float) -> Losses:
        z, u = self.forward(model, batch)
        supervised = losses.cross_entropy(z, batch.y)
        unlabeled = losses.consistency_mse(u[WEAK], u[OTHER])
        return self.combine(supervised, unlabeled, losses.ramp(progress, self.ramp))


@dataclass
class MeanTeacher(SemiSupervised):
    """Mean Teacher (Tarvainen & Valpola 2017): the teacher has averaged weights of the student and gets another view.

    Options:
        teacher_decay: decay of the average; in early steps it is 1 - 1 / (step + 1), if that is smaller.
        ramp: share of the training over which lambda_u rises linearly.
    """

    mu: Amount = 1.0
    lambda_u: Amount = 50.0
    teacher_decay: Amount = 0.999
    ramp: Amount = 0.4

    views: ClassVar = (WEAK, OTHER)

    def setup(self, context: Context) -> None:
        super().setup(context)
        self.teacher = copy.deepcopy(context.model).requires_grad_(False).train()
        self.steps = 0

    def step(self, model: nn.Module, batch: Batch, progress: float) -> Losses:
        z, u = self.forward(model, batch, views=(WEAK,))
        with torch.no_grad(), untracked(self.teacher):
            z_teacher = self.teacher(batch.unlabeled[OTHER])
        supervised = losses.cross_entropy(z, batch.y)
        unlabeled = losses.consistency_mse(u[WEAK], z_teacher)
        return self.combine(supervised, unlabeled, losses.ramp(progress, self.ramp))

    def after_step(self, model: nn.Module) -> None:
        self.steps += 1
        average_into(self.teacher, model, min(self.teacher_decay, 1.0 - 1.0 / (self.steps + 1)))

    def state_dict(self) -> dict[str, Tensor]:
        return {"steps": torch.tensor(self.steps), **self.teacher.state_dict(prefix="teacher.")}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        weights = self.teacher.state_dict()  # has the versions of its modules, which some need
        weights.update({name: state[f"teacher.{name}"] for name in weights})
        self.teacher.load_state_dict(weights)
        self.steps = int(state["steps"])


@dataclass
class Vat(SemiSupervised):
    """Virtual adversarial training (Miyato et al. 2018) with entropy minimisation.

    Options:
        eps: Euclidean norm of the perturbation for images in [-1, 1]; images in [0, 1] get half of it.
        xi: norm of the probe of the power iteration, in the same unit; below 0.1 its effect is lost in float32 rounding.
        entropy: weight of the entropy term.
    """

    mu: Amount = 1.0
    lambda_u: Amount = 0.3
    eps: Amount = 6.0
    xi: Amount = 0.1
    entropy: Amount = 0.06

    views: ClassVar = (WEAK,)

    def step(self, model: nn.Module, batch: Batch, progress: float) -> Losses:
        z, u = self.forward(model, batch)
        supervised = losses.cross_entropy(z, batch.y)
        adversarial = self._adversarial(model, batch.unlabeled[WEAK])
        entropy = losses.entropy_minimization(u[WEAK])
        parts = self.combine(supervised, adversarial, loss_entropy=entropy)
        return {**parts, "loss": parts["loss"] + self.entropy * entropy}

    def _adversarial(self, model: nn.Module, x: Tensor) -> Tensor:
        """KL(p(x) || p(x + r)) at the direction r of largest change, found by one power iteration in float32."""
        with untracked(model):
            with torch.autocast(x.device.type, enabled=False):
                with torch.no_grad():
                    log_p = F.log_softmax(model(x).float(), 1)
                probe = (0.5 * self.xi * _unit(randn_of_batch(x))).requires_grad_(True)
                distance = losses.divergence(log_p, model(x + probe)).sum()
                (gradient,) = torch.autograd.grad(distance, probe)
            direction = _unit(gradient)
            return losses.batch_mean(losses.divergence(log_p, model(x + 0.5 * self.eps * direction)))


@dataclass
class FeatureConsistency(SemiSupervised):
    """Weak and strong views should have the same features, so synthetic images regularise the features only (after MGR,
    arXiv 2307.13899, without its meta-learned latents)."""

    views: ClassVar = (WEAK, STRONG)
    needs_features: ClassVar[bool] = True

    def step(self, model: nn.Module, batch: Batch, progress: float) -> Losses:
        K = self.context.num_classes

        def both(x: Tensor) -> Tensor:
            """Logits and features side by side, (N, K + D)."""
            features, logits = cast(Network, model).features(x)
            return torch.cat([logits, features], 1)

        z, u = self.forward(model, batch, fixed=(WEAK,), call=both)
        supervised = losses.cross_entropy(z[:, :K], batch.y)
        unlabeled = losses.feature_consistency(u[STRONG][:, K:], u[WEAK][:, K:])
        return self.combine(supervised, unlabeled)


def _unit(x: Tensor) -> Tensor:
    """Every image scaled to Euclidean norm 1."""
    return x / x.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
