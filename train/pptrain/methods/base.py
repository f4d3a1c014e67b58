"""What a training method is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import ConfigDict
from torch import Tensor, nn

from pptrain.config import Amount
from pptrain.models import by_first, untracked

Batch = dict[str, Tensor]
Losses = dict[str, Tensor]


@dataclass
class Context:
    """What a method may know of the run it is in.

    Attributes:
        num_classes: K of the task.
        model: the model as it is before the first step, on its device.
        batch_norm: `joint`, `labeled` or `split`.
        unlabeled_samples: size of the unlabelled set; a batch's `u_index` lies below it.
        teacher: images in [0, 1] -> logits (B, K), for distillation.
    """

    num_classes: int
    model: nn.Module
    batch_norm: str = "joint"
    unlabeled_samples: int = 0
    teacher: Callable[[Tensor], Tensor] | None = None


@dataclass
class Method(ABC):
    """One way to turn a batch into a loss. The dataclass fields of a subclass are its options and their reference defaults.

    A batch holds `x` float (B, C, R, R) in [0, 1] and `y` int64 (B,); methods with `views` also get those names as views of one
    unlabelled batch (N, C, R, R) and `u_index` int64 (N,), the images' positions in the unlabelled set.

    Class attributes:
        views: name in the batch -> kind of view (`weak` or `strong`); empty for methods without unlabelled images.
        needs_teacher: whether `Context.teacher` must be there.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    views: ClassVar[dict[str, str]] = {}
    needs_teacher: ClassVar[bool] = False

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
        fixed: tuple[str, ...] = (),
        names: tuple[str, ...] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits of `x` and of every view (or those of `names`), with batch norm as the run asks.

        Args:
            fixed: views that no gradient goes through; they are detached, and computed without a graph where they are not
                part of the joint batch.
        """
        x = batch["x"]
        names = tuple(self.views) if names is None else names
        if self.context.batch_norm != "split":
            labeled = self.context.batch_norm == "labeled"
            with by_first(model, x.shape[0]) if labeled else nullcontext():
                z = model(torch.cat([x, *(batch[name] for name in names)]))
            z_x, *z_u = z.split([x.shape[0], *(batch[name].shape[0] for name in names)])
            return z_x, {n: t.detach() if n in fixed else t for n, t in zip(names, z_u, strict=True)}
        z_x = model(x)
        logits: dict[str, Tensor] = {}
        with untracked(model):
            for held in (True, False):
                group = [name for name in names if (name in fixed) == held]
                if group:
                    with torch.set_grad_enabled(not held):
                        z = model(torch.cat([batch[name] for name in group]))
                    logits.update(zip(group, z.chunk(len(group)), strict=True))
        return z_x, logits
