"""The rule for settings that the user did not give: lengths, batch sizes and weights computed from the number of images.

The rule is the same for every network. Its constants were chosen with seeds 100 to 102 (evaluations use seeds 0 to 9) on two tasks of
the letters kit: digits (20 images of 10 classes) and a rendered alphabet (176 images of 88 classes); docs/results.md has the table.
With few labels, strong views are best, and the length should grow more slowly than the number of images. Condition prediction gains
accuracy on both tasks, and more in longer runs; a fifth of its weight gained nothing. Pre-training takes ten epochs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, sqrt
from typing import Literal

from pptrain.config.settings import TrainConfig

# ---- fine-tuning on labelled images
_STEPS, _STEPS_AT = 400, 20  # steps for that many images; the steps grow with the square root of the images
_LEAST_STEPS, _MOST_STEPS, _ROUND_TO = 200, 4000, 50
_BATCH = 50
_LAMBDA_U = 0.5
_LABELLED_SOFT = 0.5
# ---- pre-training on shards
_PRETRAINING_EPOCHS, _PRETRAINING_STEPS, _PRETRAINING_BATCH = 10, (500, 100_000), 64


@dataclass(frozen=True)
class RuleSettings:
    """What the rule chooses; `options` are options of the method `condition`."""

    steps: int
    batch_size: int
    labeled: Literal["strong"] = "strong"
    options: dict[str, float] = field(default_factory=dict)


def fine_tuning_rule(images: int, *, conditions: bool = False, soft_labels: bool = False) -> RuleSettings:
    """The rule for fine-tuning.

    Args:
        images: labelled images to train on.
        conditions: whether the unlabelled images have conditions that can be predicted.
        soft_labels: whether, in addition, every labelled image has a soft label among those conditions and the initial weights bring
            a head for their classes, as pseudo pre-training does.
    """
    steps = round(_STEPS * sqrt(images / _STEPS_AT) / _ROUND_TO) * _ROUND_TO
    options = {"lambda_u": _LAMBDA_U, "labelled_soft": _LABELLED_SOFT if soft_labels else 0.0}
    return RuleSettings(
        min(max(steps, _LEAST_STEPS), _MOST_STEPS), _BATCH, options=options if conditions else {}
    )


def pre_training_rule(images: int, batch_size: int) -> RuleSettings:
    """The rule for pre-training on `images` in batches of `batch_size`; 0 leaves the batch size to the rule, too."""
    batch = batch_size or _PRETRAINING_BATCH
    low, high = _PRETRAINING_STEPS
    return RuleSettings(min(max(ceil(_PRETRAINING_EPOCHS * images / batch), low), high), batch)


def method_name(config: TrainConfig) -> str:
    """The method that the user named, else condition prediction if there are unlabelled images, else supervised training."""
    return config.method.name or ("condition" if config.data.unlabeled else "supervised")
