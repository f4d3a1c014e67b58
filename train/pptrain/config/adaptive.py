"""Settings that nobody gave, from what there is to learn from: a rule of counts, the same for every network.

The constants come from selection seeds (100 to 102; evaluations use 0 to 9) of two tasks of the letters kit, digits (20 images of 10
classes) and a rendered alphabet (176 images of 88 classes): docs/results.md has the table. Few labels want strong views and a length that
grows slower than the images. Condition prediction pays with 10 classes and with 88, the more the longer the run; a fifth of its weight
gained nothing. The lengths of pre-training are ten epochs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, sqrt
from typing import Literal

from pptrain.config.settings import TrainConfig

# ---- the table: fine-tuning on N labelled images
_STEPS, _STEPS_AT = 400, 20  # steps at so many images; they grow with the root of N
_LEAST_STEPS, _MOST_STEPS, _ROUND_TO = 200, 4000, 50
_BATCH = 50
_VIEW: Literal["strong"] = "strong"
_LAMBDA_U = 0.5
_LABELLED_SOFT = 0.5
# ---- pre-training on shards
_PRETRAINING_EPOCHS, _PRETRAINING_STEPS, _PRETRAINING_BATCH = 10, (500, 100_000), 64


@dataclass(frozen=True)
class Situation:
    """What the rule looks at.

    Attributes:
        images: labelled images to train on, N.
        conditions: whether there are samples whose condition can be predicted.
        source_head: whether the initial weights bring a head over the classes of those conditions, as pseudo pre-training's do.
        soft_labels: whether every labelled image has its soft label among those conditions.
    """

    images: int
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
    """Length, batch and views for N labelled images, and the weights of condition prediction."""
    grown = _STEPS * sqrt(there.images / _STEPS_AT)
    steps = min(max(round(grown / _ROUND_TO) * _ROUND_TO, _LEAST_STEPS), _MOST_STEPS)
    options = {}
    if there.conditions:
        soft = there.source_head and there.soft_labels
        options = {"lambda_u": _LAMBDA_U, "labelled_soft": _LABELLED_SOFT if soft else 0.0}
    return Choice(steps, _BATCH, options=options)


def choose_pre_training(images: int, batch_size: int) -> Choice:
    """Length for so many images in batches of `batch_size`, 0 for the rule's own."""
    batch = batch_size or _PRETRAINING_BATCH
    low, high = _PRETRAINING_STEPS
    return Choice(min(max(ceil(_PRETRAINING_EPOCHS * images / batch), low), high), batch)


def method_name(config: TrainConfig) -> str:
    """The method asked for; else condition prediction where there are unlabelled images, and plain training where there are none."""
    return config.method.name or ("condition" if config.data.unlabeled else "supervised")
