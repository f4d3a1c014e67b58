"""Settings that nobody gave, from what there is to learn from: a rule of counts, the same for every network.

The constants of fine-tuning are first guesses after a laboratory on two tasks (digits, 20 images of 10 classes, 8 seeds; 172 images of 86
foreign characters, 3 seeds), none of whose seeds is among the evaluation seeds 0-9: few labels want strong views and a length that grows
slower than the images, the source task helps with few classes and costs with many. Those of pre-training are ten epochs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, sqrt
from typing import Literal

from pptrain.config.settings import TrainConfig

# ---- the table: fine-tuning on N labelled images of K classes
_STEPS, _STEPS_AT = 200, 20  # steps at so many images; they grow with the root of N
_LEAST_STEPS, _MOST_STEPS, _ROUND_TO = 200, 2000, 50
_BATCH = 50
_VIEW: Literal["strong"] = "strong"
_LAMBDA_U = 0.5  # up to so many classes, and then in a straight line down to 0
_FULL_WEIGHT_CLASSES, _NO_WEIGHT_CLASSES = 20, 80
_LABELLED_SOFT = 0.5  # falls with lambda_u
# ---- pre-training on shards
_PRETRAINING_EPOCHS, _PRETRAINING_STEPS, _PRETRAINING_BATCH = 10, (500, 100_000), 64


@dataclass(frozen=True)
class Situation:
    """What the rule looks at.

    Attributes:
        images: labelled images to train on, N.
        classes: of the target, K.
        conditions: whether there are samples whose condition can be predicted.
        source_head: whether the initial weights bring a head over the classes of those conditions, as pseudo pre-training's do.
        soft_labels: whether every labelled image has its soft label among those conditions.
    """

    images: int
    classes: int
    conditions: bool = False
    source_head: bool = False
    soft_labels: bool = False


@dataclass(frozen=True)
class Choice:
    """What it says; `options` are those of the method `condition`."""

    steps: int
    batch_size: int
    labeled: Literal["strong"] = _VIEW
    options: dict[str, float] = field(default_factory=dict)


def choose_fine_tuning(there: Situation) -> Choice:
    """Length, batch and views for N labelled images, and the weights of condition prediction for K classes."""
    grown = _STEPS * sqrt(there.images / _STEPS_AT)
    steps = min(max(round(grown / _ROUND_TO) * _ROUND_TO, _LEAST_STEPS), _MOST_STEPS)
    options = {}
    if there.conditions:
        span = _NO_WEIGHT_CLASSES - _FULL_WEIGHT_CLASSES
        share = min(max((_NO_WEIGHT_CLASSES - there.classes) / span, 0.0), 1.0)
        soft = there.source_head and there.soft_labels
        options["lambda_u"] = round(_LAMBDA_U * share, 3)
        options["labelled_soft"] = round(_LABELLED_SOFT * share, 3) if soft else 0.0
    return Choice(steps, _BATCH, options=options)


def choose_pre_training(images: int, batch_size: int) -> Choice:
    """Length for so many images in batches of `batch_size`, 0 for the rule's own."""
    batch = batch_size or _PRETRAINING_BATCH
    low, high = _PRETRAINING_STEPS
    return Choice(min(max(ceil(_PRETRAINING_EPOCHS * images / batch), low), high), batch)


def method_name(config: TrainConfig) -> str:
    """The method asked for; else condition prediction where there are unlabelled images, and plain training where there are none."""
    return config.method.name or ("condition" if config.data.unlabeled else "supervised")
