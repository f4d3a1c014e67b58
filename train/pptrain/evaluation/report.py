"""The figures of an evaluation: accuracy with its interval, per class, confusion, calibration."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_Z95 = 1.959963984540054
_ECE_BINS = 15


@dataclass(frozen=True)
class Report:
    """What an evaluation found; `as_dict` is what result.json holds.

    Attributes:
        accuracy, top5: shares of correct first guesses and of labels among the first five (or all, when fewer).
        interval: 95 % Wilson score interval of the accuracy.
        balanced: mean over the classes of their own accuracy.
        per_class: accuracy of every class, NaN for absent ones.
        confusion: int64 (K, K), rows true, columns predicted.
        ece: expected calibration error, 15 equal bins (Guo et al. 2017).
        loss: mean cross-entropy, nats.
        guesses: int64 (N,), the class of every image; confidences: float32 (N,), its probability. Not in `as_dict`.
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
    guesses: np.ndarray
    confidences: np.ndarray

    def as_dict(self) -> dict[str, Any]:
        """JSON types."""
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


def summarize(logits: Tensor, labels: Tensor) -> Report:
    """float32 (N, K) logits and int64 (N,) labels -> figures."""
    count, classes = logits.shape
    guess = logits.argmax(1)
    correct = guess == labels
    confusion = torch.bincount(labels * classes + guess, minlength=classes**2).view(classes, classes)
    present = confusion.sum(1)
    per_class = confusion.diagonal() / present  # 0/0 is NaN: the class is absent
    top = logits.topk(min(5, classes), 1).indices
    hits = int(correct.sum())
    return Report(
        images=count,
        accuracy=hits / count,
        interval=wilson(hits, count),
        top5=(top == labels[:, None]).any(1).float().mean().item(),
        balanced=per_class[present > 0].mean().item(),
        per_class=per_class.tolist(),
        confusion=confusion.numpy(),
        ece=calibration_error(logits, correct),
        loss=F.cross_entropy(logits, labels).item(),
        guesses=guess.numpy(),
        confidences=logits.softmax(1).max(1).values.numpy(),
    )


def wilson(hits: int, count: int, z: float = _Z95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927)."""
    share, scale = hits / count, 1.0 + z**2 / count
    centre = (share + z**2 / (2 * count)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def calibration_error(logits: Tensor, correct: Tensor, bins: int = _ECE_BINS) -> float:
    """Mean over the images of |accuracy - confidence| of their confidence bin (Guo et al. 2017)."""
    confidence = logits.softmax(1).max(1).values
    which = (confidence * bins).long().clamp_(max=bins - 1)
    gap = torch.zeros(bins).index_add_(0, which, confidence - correct.float())
    return gap.abs().sum().item() / len(correct)


def describe(report: Report, class_names: tuple[str, ...]) -> str:
    """A few lines for a person."""
    low, high = report.interval
    lines = [
        f"accuracy {report.accuracy:.2%} ({low:.2%} to {high:.2%} with 95 % confidence, {report.images} images)",
        f"top-5 {report.top5:.2%}, balanced {report.balanced:.2%}, calibration error {report.ece:.3f}, loss {report.loss:.4f}",
    ]
    ranked = sorted((a, n) for a, n in zip(report.per_class, class_names, strict=True) if not math.isnan(a))
    lines.append("weakest classes: " + ", ".join(f"{name} {accuracy:.1%}" for accuracy, name in ranked[:5]))
    mistakes = report.confusion - np.diag(report.confusion.diagonal())
    order = np.argsort(mistakes, axis=None)[::-1][:5]
    pairs = [(int(p) // len(class_names), int(p) % len(class_names)) for p in order if mistakes.flat[p]]
    if pairs:
        listed = ", ".join(f"{class_names[t]} as {class_names[g]} ({mistakes[t, g]})" for t, g in pairs)
        lines.append(f"most frequent mistakes: {listed}")
    return "\n".join(lines)
