"""Evaluates a classifier on labelled images: accuracy and its interval, accuracy per class, confusions, calibration."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ppcore.classifiers import Classifier, ClassifierSpec, load_classifier
from ppcore.console import print_warnings, shortened
from ppcore.errors import UserError
from ppcore.targets import ImageSet, Target, decode_ahead, find_problems, load_target
from ppcore.trust import Trust
from pptrain.models import choose_device

_Z95 = 1.959963984540054
_ECE_BINS = 15
# At most 256 images in a batch, and 32 of 256 pixels: the activations of a ResNet need 300 MB then.
_LARGEST_BATCH, _BATCH_PIXELS = 256, 1 << 21
_NAMED = 5  # class names in a message


@dataclass(frozen=True)
class Evaluation:
    """The figures of a classifier on N labelled images.

    Attributes:
        accuracy, top5: shares of images whose label is the prediction, and is among the five likeliest classes.
        interval: 95 % Wilson score interval of the accuracy.
        balanced: mean over the classes of the accuracy on the class.
        per_class: accuracy on every class, NaN for classes without images.
        confusion: int64 (K, K), rows true, columns predicted.
        ece: expected calibration error, 15 equal bins (Guo et al. 2017).
        loss: mean cross-entropy, nats.
        predictions: int64 (N,), predicted classes.
        confidences: float32 (N,), probabilities of the predicted classes.
        class_names: names of the K classes.
    """

    images: int
    accuracy: float
    interval: tuple[float, float]
    top5: float
    balanced: float
    per_class: list[float]
    confusion: np.ndarray
    ece: float
    loss: float
    predictions: np.ndarray
    confidences: np.ndarray
    class_names: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The figures in JSON types, without predictions and confidences."""
        return {
            "images": self.images,
            "accuracy": self.accuracy,
            "interval95": list(self.interval),
            "top5": self.top5,
            "balanced_accuracy": self.balanced,
            "per_class": [None if math.isnan(a) else a for a in self.per_class],
            "confusion": self.confusion.tolist(),
            "ece": self.ece,
            "loss": self.loss,
        }

    def describe(self) -> str:
        """The figures in a few lines, with the classes of the lowest accuracy and the most frequent mistakes."""
        (low, high), names = self.interval, self.class_names
        lines = [
            f"accuracy {self.accuracy:.2%} ({low:.2%} to {high:.2%} with 95 % confidence, {self.images} images)",
            f"top-5 {self.top5:.2%}, balanced {self.balanced:.2%}, calibration error {self.ece:.3f}, loss {self.loss:.4f}",
        ]
        ranked = sorted((a, n) for a, n in zip(self.per_class, names, strict=True) if not math.isnan(a))
        lines.append(
            "weakest classes: " + ", ".join(f"{name} {accuracy:.1%}" for accuracy, name in ranked[:5])
        )
        mistakes = self.confusion - np.diag(self.confusion.diagonal())
        order = np.argsort(mistakes, axis=None)[::-1][:5]
        pairs = [divmod(int(p), len(names)) for p in order if mistakes.flat[p]]
        if pairs:
            listed = ", ".join(f"{names[t]} as {names[p]} ({mistakes[t, p]})" for t, p in pairs)
            lines.append(f"most frequent mistakes: {listed}")
        return "\n".join(lines)


def evaluate_model(
    model: str, target: str, *, split: str = "test", device: str = "auto", trust_code: bool = False
) -> Evaluation:
    """The figures of a stored model on a split of a target.

    Args:
        model: run directory, model directory, kit or classifier.
        target: labelled images: a name, `NAME=PLACE`, or a folder, table or archive of images.
        split: images to evaluate on: `test`, `train` or `all`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        trust_code: run the code (module:callable) that the model directory names.

    Raises:
        UserError: no such model, target, split or device, or a model of other classes.
    """
    classifier = load_classifier(model, trust=Trust(trust_code))
    opened = load_target(target)
    print_warnings(find_problems(opened))
    images = choose_split(opened, split, classifier.spec)
    return evaluate(classifier.to(choose_device(device)), images)


def evaluate(classifier: Classifier, images: ImageSet) -> Evaluation:
    """The figures of a classifier on labelled images.

    Raises:
        UserError: an empty set.
    """
    if not len(images):
        raise UserError("there are no images to evaluate on; give a target with a non-empty split")
    return HeldImages(images, classifier.spec).evaluate(classifier)


class HeldImages:
    """Labelled images to evaluate on, prepared for the classifiers of `spec`.

    Args:
        keep_mb: sets whose decoded images need at most this many MiB are kept in memory after the first evaluation; others are decoded
            again by each, batch by batch.
    """

    def __init__(self, images: ImageSet, spec: ClassifierSpec, *, keep_mb: int = 0) -> None:
        self.images, self.spec = images, spec
        self._kept: list[Tensor] = []
        self._keep = len(images) * spec.channels * spec.resolution**2 <= keep_mb << 20

    def evaluate(self, classifier: Classifier) -> Evaluation:
        """The figures of a classifier with the preprocessing of `spec`."""
        if self._keep and not self._kept:
            self._kept = list(image_batches(self.images, self.spec))
        batches = self._kept or image_batches(self.images, self.spec)
        logits = predict_logits(classifier.whole(), batches)
        return summarize(logits, torch.from_numpy(self.images.labels), self.spec.class_names)


def image_batches(images: ImageSet, spec: ClassifierSpec) -> Iterator[Tensor]:
    """Prepared batches uint8 (B, C, R, R), for :meth:`Classifier.whole`; the next ones are decoded meanwhile."""
    count = len(images)
    size = min(max(_BATCH_PIXELS // spec.resolution**2, 1), _LARGEST_BATCH)
    parts = [range(first, min(first + size, count)) for first in range(0, count, size)]
    return decode_ahead(images, parts, spec.preparation)


def predict_logits(classifier: Classifier, batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """Batches uint8 (B, C, H, W) -> float32 logits (B, K) on the CPU, with the classifier in evaluation mode."""
    classifier.eval()
    device = next(classifier.parameters()).device
    for images in batches:
        with torch.no_grad():
            yield classifier(images.to(device)).cpu()


def summarize(batches: Iterable[Tensor], labels: Tensor, class_names: tuple[str, ...] = ()) -> Evaluation:
    """Batches of logits, float32 (B, K), the labels int64 (N,) of all images, and the names of the K classes -> figures."""
    count, done, classes = len(labels), 0, 0
    # One tensor for all images: small tensors that outlive their batch would lie between the large ones of the network, and the process
    # would grow by megabytes a batch, because the next large ones no longer fit into the gaps.
    predictions, confidences = torch.empty(count, dtype=torch.int64), torch.empty(count)
    among_top, losses = torch.empty(count, dtype=torch.bool), torch.empty(count)
    for logits in batches:
        part = slice(done, done + len(logits))
        truth = labels[part]
        predictions[part] = logits.argmax(1)
        confidences[part] = logits.softmax(1).amax(1)
        among_top[part] = (logits.topk(min(5, logits.shape[1]), 1).indices == truth[:, None]).any(1)
        losses[part] = F.cross_entropy(logits, truth, reduction="none")
        done, classes = done + len(logits), logits.shape[1]
    correct = predictions == labels
    confusion = torch.bincount(labels * classes + predictions, minlength=classes**2).view(classes, classes)
    present = confusion.sum(1)
    per_class = confusion.diagonal() / present  # 0/0 is NaN: the class has no images
    hits = int(correct.sum())
    return Evaluation(
        images=done,
        accuracy=hits / done,
        interval=wilson(hits, done),
        top5=among_top.float().mean().item(),
        balanced=per_class[present > 0].mean().item(),
        per_class=per_class.tolist(),
        confusion=confusion.numpy(),
        ece=calibration_error(confidences, correct),
        loss=losses.mean().item(),
        predictions=predictions.numpy(),
        confidences=confidences.numpy(),
        class_names=class_names,
    )


def wilson(hits: int, count: int, z: float = _Z95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927)."""
    share, scale = hits / count, 1.0 + z**2 / count
    centre = (share + z**2 / (2 * count)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def calibration_error(confidences: Tensor, correct: Tensor, bins: int = _ECE_BINS) -> float:
    """Mean over the images of |accuracy - confidence| of the image's confidence bin (Guo et al. 2017).

    Args:
        confidences: float32 (N,), probabilities of the predicted classes.
        correct: bool (N,).
    """
    which = (confidences * bins).long().clamp_(max=bins - 1)
    gap = torch.zeros(bins).index_add_(0, which, confidences - correct.float())
    return gap.abs().sum().item() / len(correct)


def choose_split(target: Target, split: str, spec: ClassifierSpec) -> ImageSet:
    """`test`, `train`, or `all` images of a target (training images first), labelled with the model's classes.

    Raises:
        UserError: unknown split, or the model does not know the classes.
    """
    train, test = target.train, target.test
    if split not in ("test", "train", "all"):
        raise UserError(f"unknown split {split!r}; expected test, train or all")
    images = {"test": test, "train": train}.get(split)
    if images is None:
        images = ImageSet(
            train.ids + test.ids,
            np.concatenate([train.labels, test.labels]),
            lambda i: train.load(i) if i < len(train) else test.load(i - len(train)),
        )
    return ImageSet(images.ids, _model_classes(spec, target)[images.labels], images.load)


def _model_classes(spec: ClassifierSpec, target: Target) -> np.ndarray:
    """Target class -> the model's class of the same name: int64 (classes of the target,).

    If no name agrees and the numbers of classes do, the classes are taken to be in the same order, and a warning says so.

    Raises:
        UserError: only some names agree, or none and the numbers of classes differ.
    """
    if spec.class_names == target.classes:  # published lists may contain a name twice
        return np.arange(spec.num_classes, dtype=np.int64)
    names = {name: position for position, name in enumerate(spec.class_names)}
    unknown = [name for name in target.classes if name not in names]
    if not unknown:
        return np.array([names[name] for name in target.classes], dtype=np.int64)
    if len(unknown) == len(target.classes) == spec.num_classes:
        pairs = [f"{ours} is {theirs}" for ours, theirs in zip(target.classes, spec.class_names, strict=True)]
        print_warnings(
            [
                f"no class name of target {target.name!r} is one of the model's: classes are matched by position "
                f"({shortened(pairs, _NAMED)})"
            ]
        )
        return np.arange(spec.num_classes, dtype=np.int64)
    if len(unknown) < len(target.classes):
        unused = [name for name in spec.class_names if name not in target.classes]
        raise UserError(
            f"target {target.name!r} has classes that the model does not know: {shortened(unknown, _NAMED)} (the model's other classes: "
            f"{shortened(unused, _NAMED) or 'none'}); rename them, or fine-tune the model on this target first"
        )
    raise UserError(
        f"the model has {spec.num_classes} classes, target {target.name!r} has {len(target.classes)} others; fine-tune the "
        f"model on this target first"
    )
