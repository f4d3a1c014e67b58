"""What a training method is: `setup` once, then `step` turns a batch into losses and `after_step` follows the optimiser.

To add one: a dataclass in a file of this room whose fields are its options, and a line in `METHODS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

import torch
from pydantic import ConfigDict
from torch import Tensor, nn

from pptrain.config import Amount
from pptrain.data import ConditionTable, ViewKind
from pptrain.models import untracked

Losses = dict[str, Tensor]


class UnlabeledView(StrEnum):
    """The views of the unlabelled images that a method can ask for; the value names the view's random stream."""

    WEAK = "u_weak"
    OTHER = "u_other"  # a second weak view
    STRONG = "u_strong"

    @property
    def kind(self) -> ViewKind:
        return ViewKind.STRONG if self is UnlabeledView.STRONG else ViewKind.WEAK


WEAK, OTHER, STRONG = UnlabeledView


@dataclass(frozen=True)
class Batch:
    """What a step sees, on the model's device.

    Attributes:
        x: labelled images, float32 (B, C, R, R) in [0, 1].
        y: their labels, int64 (B,).
        unlabeled: views of one batch of unlabelled images, float32 (N, C, R, R) in [0, 1] each: those of `Method.views`.
        index: the unlabelled images' positions in their set, int64 (N,).
        labeled_index: the labelled images' positions in theirs, int64 (B,).
    """

    x: Tensor
    y: Tensor
    unlabeled: dict[UnlabeledView, Tensor] = field(default_factory=dict)
    index: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    labeled_index: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))


@dataclass(frozen=True)
class SourceSide:
    """What a method that predicts conditions knows of the source.

    Attributes:
        head: (D -> K_s), at its start.
        conditions: of the unlabelled samples, on the model's device.
        labeled: float32 (n, K_s), soft labels of the labelled images; None when some conditioned no sample.
    """

    head: nn.Linear
    conditions: ConditionTable
    labeled: Tensor | None

    def to(self, device: torch.device) -> SourceSide:
        """The same on a device."""
        labeled = None if self.labeled is None else self.labeled.to(device)
        return SourceSide(self.head.to(device), self.conditions.to(device), labeled)


@dataclass
class Context:
    """What a method may know of the run it is in.

    Attributes:
        num_classes: K of the task.
        model: the model as it is before the first step, on its device.
        batch_norm: `joint` or `split`, as in :class:`pptrain.config.settings.MethodConfig`.
        unlabeled_samples: size of the unlabelled set; a batch's `index` lies below it.
        teacher: images in [0, 1] -> logits (B, K), for distillation.
        source: for methods with `needs_conditions`.
    """

    num_classes: int
    model: nn.Module
    batch_norm: str = "joint"
    unlabeled_samples: int = 0
    teacher: Callable[[Tensor], Tensor] | None = None
    source: SourceSide | None = None


@dataclass
class Method(ABC):
    """One way to turn a batch into a loss. The dataclass fields of a subclass are its options and their reference defaults.

    Class attributes:
        views: what the batch holds of the unlabelled images; empty for methods without any.
        needs_teacher: whether `Context.teacher` must be there.
        needs_conditions: whether `Context.source` must be there; the unlabelled images are then shards of either kind.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    views: ClassVar[tuple[UnlabeledView, ...]] = ()
    needs_teacher: ClassVar[bool] = False
    needs_conditions: ClassVar[bool] = False

    def setup(self, context: Context) -> None:
        """Called once before the first step; state tensors are registered here."""
        self.context = context
        self.state: dict[str, Tensor] = {}

    @abstractmethod
    def step(self, model: nn.Module, batch: Batch, progress: float) -> Losses:
        """Loss of one batch: {"loss": the sum to descend, and its named parts}, all () float32.

        Args:
            model: images in [0, 1] -> logits, in train mode.
            progress: share of the training that is over, in [0, 1).
        """

    def after_step(self, model: nn.Module) -> None:  # noqa: B027 - most methods need none
        """Called after every optimiser step."""

    def register(self, name: str, value: Tensor) -> None:
        """Add a state tensor, on the model's device; checkpoints keep it."""
        device = next(self.context.model.parameters()).device
        self.state[name] = value.to(device)

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return dict(self.state)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what :meth:`state_dict` gave; called after :meth:`setup`."""
        for name, value in state.items():
            self.register(name, value)


@dataclass
class SemiSupervised(Method):
    """CE on labelled images plus lambda_u times a term on unlabelled ones.

    Options:
        mu: unlabelled images a labelled one.
        lambda_u: weight of the unlabelled term.
    """

    mu: Amount = 7.0
    lambda_u: Amount = 1.0

    def forward(
        self,
        model: nn.Module,
        batch: Batch,
        *,
        fixed: tuple[UnlabeledView, ...] = (),
        views: tuple[UnlabeledView, ...] | None = None,
        call: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, dict[UnlabeledView, Tensor]]:
        """Logits (B, K) of `x` and (N, K) of every view (or those of `views`), with batch norm as the run asks.

        Args:
            fixed: views that no gradient goes through; they are detached, and computed without a graph where they are not
                part of the joint batch.
            call: what to apply to the images, where it is more than `model`.
        """
        call = call or model
        x, u = batch.x, batch.unlabeled
        views = self.views if views is None else views
        if self.context.batch_norm == "joint":
            z = call(torch.cat([x, *(u[view] for view in views)]))
            z_x, *z_u = z.split([x.shape[0], *(u[view].shape[0] for view in views)])
            return z_x, {v: t.detach() if v in fixed else t for v, t in zip(views, z_u, strict=True)}
        z_x = call(x)
        logits: dict[UnlabeledView, Tensor] = {}
        with untracked(model):
            for held in (True, False):
                group = [view for view in views if (view in fixed) == held]
                if group:
                    with torch.set_grad_enabled(not held):
                        z = call(torch.cat([u[view] for view in group]))
                    logits.update(zip(group, z.chunk(len(group)), strict=True))
        return z_x, logits

    def combine(self, labeled: Tensor, unlabeled: Tensor, share: float = 1.0, **parts: Tensor) -> Losses:
        """The losses of a step: `labeled` + `share` * lambda_u * `unlabeled` to descend, the two, and `parts` to look at."""
        loss = labeled + self.lambda_u * share * unlabeled
        return {"loss": loss, "loss_labeled": labeled, "loss_unlabeled": unlabeled, **parts}
