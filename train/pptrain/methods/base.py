"""The interface of training methods.

The trainer calls `setup` once, `step` for every batch, and `after_step` after every optimiser step. To add a method, write a dataclass
in a file of this folder, whose fields are the options of the method, and add it to `METHODS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

import torch
import torch.distributed as dist
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from pptrain.config import Amount
from pptrain.data import ConditionTable, ViewKind
from pptrain.models import untracked

# The trainer averages gradients over the processes. That is exact for means over images, because all processes have equally many. A method
# that counts images, keeps running statistics or draws noise per image uses the functions below, so that N processes compute what one
# process computes. With one process they return their argument.


def process_count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather_rows(x: Tensor) -> Tensor:
    """(N, ...) of this process -> (processes * N, ...) in the order of the ranks, without gradient; N must be the same everywhere."""
    if process_count() == 1:
        return x.detach()
    parts = [torch.empty_like(x) for _ in range(process_count())]
    dist.all_gather(parts, x.detach().contiguous())
    return torch.cat(parts)


def own_rows(x: Tensor) -> Tensor:
    """(processes * N, ...) -> (N, ...): the rows that :func:`gather_rows` took from this process."""
    return x if process_count() == 1 else x.chunk(process_count())[dist.get_rank()]


def sum_over_processes(x: Tensor) -> Tensor:
    """The sum of `x` over the processes; gradients flow back into the part of every process."""
    return x if process_count() == 1 else all_reduce(x)


def randn_of_batch(x: Tensor) -> Tensor:
    """Standard normal noise of the shape of `x`: this process's rows of the noise that one process would draw for the global batch."""
    if process_count() == 1:
        return torch.randn_like(x)
    noise = torch.randn(process_count() * x.shape[0], *x.shape[1:], dtype=x.dtype, device=x.device)
    dist.broadcast(noise, src=0)
    return own_rows(noise)


Losses = dict[str, Tensor]


class UnlabeledView(StrEnum):
    """The views of the unlabelled images that a method can ask for; the value is the name of the random stream of the view."""

    WEAK = "u_weak"
    OTHER = "u_other"  # a second weak view
    STRONG = "u_strong"

    @property
    def kind(self) -> ViewKind:
        return ViewKind.STRONG if self is UnlabeledView.STRONG else ViewKind.WEAK


WEAK, OTHER, STRONG = UnlabeledView


@dataclass(frozen=True)
class Batch:
    """A batch of this process, on the device of the model.

    Attributes:
        x: labelled images, float32 (B, C, R, R) in [0, 1].
        y: their labels, int64 (B,).
        unlabeled: the views in `Method.views` of N unlabelled images, each float32 (N, C, R, R) in [0, 1].
        index: positions of the unlabelled images in their set, int64 (N,).
        labeled_index: positions of the labelled images in their set, int64 (B,).
    """

    x: Tensor
    y: Tensor
    unlabeled: dict[UnlabeledView, Tensor] = field(default_factory=dict)
    index: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    labeled_index: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))


@dataclass(frozen=True)
class SourceSide:
    """What a method that predicts conditions needs to know about the source.

    Attributes:
        head: linear layer from D features to the K_s source classes, with its initial weights.
        conditions: conditions of the unlabelled samples.
        labeled: soft labels of the n labelled images, float32 (n, K_s); None if some of them conditioned no sample.
        taught: target classes of the N unlabelled samples, float32 (N, K), see :mod:`pptrain.engine.prototypes`; None without.
    """

    head: nn.Linear
    conditions: ConditionTable
    labeled: Tensor | None
    taught: Tensor | None = None

    def to(self, device: torch.device) -> SourceSide:
        """The same object with its tensors on `device`."""
        labeled = None if self.labeled is None else self.labeled.to(device)
        taught = None if self.taught is None else self.taught.to(device)
        return SourceSide(self.head.to(device), self.conditions.to(device), labeled, taught)


@dataclass
class Context:
    """What a method may know about its run.

    Attributes:
        num_classes: number of classes K of the target.
        model: the model before the first step, on its device.
        batch_norm: `joint` or `split`, as in :class:`pptrain.config.settings.MethodConfig`.
        unlabeled_samples: size of the unlabelled set; `Batch.index` is below it.
        teacher: images in [0, 1] -> logits (B, K); only for methods with `needs_teacher`.
        source: only for methods with `needs_conditions`.
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
        views: views of the unlabelled images in a batch; empty for methods that use none.
        needs_teacher: whether the method needs `Context.teacher`.
        needs_conditions: whether the method needs `Context.source`; its unlabelled images are pseudo or synth directories.
        needs_features: whether the method uses the features of the network, the input of its head.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    views: ClassVar[tuple[UnlabeledView, ...]] = ()
    needs_teacher: ClassVar[bool] = False
    needs_conditions: ClassVar[bool] = False
    needs_features: ClassVar[bool] = False

    def setup(self, context: Context) -> None:
        """Called once before the first step. A method registers its state tensors here."""
        self.context = context
        self.state: dict[str, Tensor] = {}

    @abstractmethod
    def step(self, model: nn.Module, batch: Batch, progress: float) -> Losses:
        """The loss of one batch and its named parts: {"loss": the sum to minimise, ...}, all () float32.

        Args:
            model: images in [0, 1] -> logits, in train mode.
            progress: share of the steps that are done, in [0, 1).
        """

    def after_step(self, model: nn.Module) -> None:  # noqa: B027 - most methods need none
        """Called after every optimiser step."""

    def register(self, name: str, value: Tensor) -> None:
        """Add the state tensor `state[name]` on the device of the model; checkpoints store it."""
        device = next(self.context.model.parameters()).device
        self.state[name] = value.to(device)

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint stores."""
        return dict(self.state)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` returned; called after :meth:`setup`."""
        for name, value in state.items():
            self.register(name, value)


@dataclass
class SemiSupervised(Method):
    """Cross-entropy on labelled images plus lambda_u times a term on unlabelled images.

    Options:
        mu: unlabelled images per labelled image.
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
        """Logits (B, K) of `x`, and (N, K) of every view; batch norm is `joint` or `split` as the run asks.

        Args:
            fixed: views without gradient. Their logits are detached; with `split` they are computed without a graph.
            views: the views to compute; by default all in `self.views`.
            call: function of images to compute instead of `model`.
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
        """The losses of a step: `labeled` + `share` * lambda_u * `unlabeled` to minimise, its two terms, and `parts` for the log."""
        loss = labeled + self.lambda_u * share * unlabeled
        return {"loss": loss, "loss_labeled": labeled, "loss_unlabeled": unlabeled, **parts}
