"""Condition prediction: predicts the soft label that each pseudo sample was generated from.

A pseudo sample is an image of the SOURCE. Consistency methods assign it to a target class, which is wrong if source and target share no
label. The soft label that conditioned it is right by construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from pptrain.config import Amount, PositiveAmount
from pptrain.methods import losses
from pptrain.methods.base import STRONG, WEAK, Batch, Context, Losses, SemiSupervised, UnlabeledView
from pptrain.models import Network


@dataclass
class Condition(SemiSupervised):
    """Predicts labels of target images and, with a second head, the conditions of pseudo samples.

    L = CE(f_t(x), y) + lambda_u * CE(f_s(x_pseudo), c). f_s is a second head over the K_s source classes on the same features; c is the
    soft label that conditioned x_pseudo, or its class for synth samples. f_s starts from the head of pseudo pre-training if the
    initial model has one, and is not part of the saved classifier.

    Options:
        lambda_u: weight of the source task; with 0 (and no other weight) training is plain fine-tuning, bit for bit.
        view: view of the pseudo samples.
        target: what f_s predicts: `condition`, or `classifier`: the output of --teacher (the source classifier) for the weak view.
        temperature: above 1 flattens the condition, below 1 sharpens it.
        plus: weight of an additional UDA term (no threshold, temperature 1) on the same samples.
        labelled_soft: weight of the source task on labelled target images, whose soft labels f_s predicts.
        prototypes: weight of the target classes that the class means of the features of --teacher (the source classifier) give the
            pseudo samples; see :mod:`pptrain.engine.prototypes`.
    """

    mu: Amount = 2.0
    lambda_u: Amount = 0.5
    view: Literal["weak", "strong"] = "strong"
    target: Literal["condition", "classifier"] = "condition"
    temperature: PositiveAmount = 1.0
    plus: Amount = 0.0
    labelled_soft: Amount = 0.0
    prototypes: Amount = 0.0

    needs_conditions: ClassVar[bool] = True
    needs_features: ClassVar[bool] = True

    @property
    def needs_teacher(self) -> bool:  # type: ignore[override]
        return self.target == "classifier" or self.prototypes > 0

    @property
    def views(self) -> tuple[UnlabeledView, ...]:  # type: ignore[override]
        if self._idle:
            return ()
        wanted = {WEAK if self.view == "weak" else STRONG}
        if self.plus > 0:
            wanted |= {WEAK, STRONG}
        if self.target == "classifier":
            wanted.add(WEAK)
        return tuple(view for view in UnlabeledView if view in wanted)

    @property
    def _idle(self) -> bool:
        """Whether pseudo samples have no weight; then they do not go through the network, to keep them out of batch norm, too."""
        return self.lambda_u == self.plus == self.labelled_soft == self.prototypes == 0

    def setup(self, context: Context) -> None:
        super().setup(context)
        assert context.source is not None
        cast(Network, context.model).source_head = context.source.head

    def step(self, model: nn.Module, batch: Batch, progress: float) -> Losses:
        if self._idle:
            return {"loss": losses.cross_entropy(model(batch.x), batch.y)}
        K = self.context.num_classes

        def both(x: Tensor) -> Tensor:
            """Target and source logits side by side, (N, K + K_s)."""
            return torch.cat(cast(Network, model).with_source(x), 1)

        z, u = self.forward(model, batch, call=both)
        seen = u[WEAK if self.view == "weak" else STRONG]
        supervised = losses.cross_entropy(z[:, :K], batch.y)
        predicted = losses.cross_entropy(seen[:, K:], self._wanted(batch))
        parts: dict[str, Tensor] = {}
        extra = torch.zeros((), device=z.device)
        assert self.context.source is not None
        if self.plus > 0:
            parts["loss_uda"], _ = losses.uda(
                u[STRONG][:, :K], u[WEAK][:, :K], threshold=0.0, temperature=1.0
            )
            extra = extra + self.plus * parts["loss_uda"]
        if self.labelled_soft > 0:
            assert self.context.source.labeled is not None
            soft = losses.sharpen(self.context.source.labeled[batch.labeled_index], self.temperature)
            parts["loss_labelled_soft"] = losses.cross_entropy(z[:, K:], soft)
            extra = extra + self.labelled_soft * parts["loss_labelled_soft"]
        if self.prototypes > 0 and self.context.source.taught is not None:
            parts["loss_prototypes"] = losses.cross_entropy(
                seen[:, :K], self.context.source.taught[batch.index]
            )
            extra = extra + self.prototypes * parts["loss_prototypes"]
        combined = self.combine(supervised, predicted)
        return combined | parts | {"loss": combined["loss"] + extra}

    def _wanted(self, batch: Batch) -> Tensor:
        """The targets of the source head for the pseudo samples, float32 (N, K_s)."""
        source = self.context.source
        assert source is not None
        if self.target == "condition":
            return losses.sharpen(source.conditions.of_samples(batch.index), self.temperature)
        assert self.context.teacher is not None
        return losses.sharpen(self.context.teacher(batch.unlabeled[WEAK]).softmax(1), self.temperature)
