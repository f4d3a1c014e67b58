"""A classifier looks at images: logits, and the figures they come to."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from ppcore.classifiers import Classifier, ClassifierSpec
from ppcore.errors import UserError
from ppcore.targets import ImageSet, stack
from pptrain.evaluation.report import Report, summarize


@torch.no_grad()
def predict_logits(classifier: Classifier, images: Tensor, *, batch: int = 256) -> Tensor:
    """uint8 (N, C, H, W) -> float32 logits (N, K) on the CPU, classifier in eval mode."""
    classifier.eval()
    device = next(classifier.parameters()).device
    parts = [classifier(part.to(device)).cpu() for part in images.split(batch)]
    return torch.cat(parts) if parts else torch.zeros(0, classifier.spec.num_classes)


def load_images(images: ImageSet, spec: ClassifierSpec) -> Tensor:
    """uint8 (N, C, S, S) as the classifier's preprocessing wants them, before its centre crop."""
    return stack(images, spec.resize or spec.resolution, spec.channels)


def evaluate(classifier: Classifier, images: ImageSet) -> Report:
    """Every figure of :class:`Report` for a labelled set.

    Raises:
        UserError: an empty set.
    """
    if not len(images):
        raise UserError("there are no images to evaluate on; give a target with a non-empty split")
    logits = predict_logits(classifier, load_images(images, classifier.spec))
    return summarize(logits, torch.from_numpy(images.labels))


class HeldImages:
    """Labelled images that are judged again and again: decoded at the first time and kept."""

    def __init__(self, images: ImageSet, spec: ClassifierSpec) -> None:
        self.images, self.spec = images, spec

    @cached_property
    def _pixels(self) -> Tensor:
        return load_images(self.images, self.spec)

    def judge(self, classifier: Classifier) -> Report:
        """The figures of a classifier with the same preprocessing."""
        return summarize(predict_logits(classifier, self._pixels), torch.from_numpy(self.images.labels))
