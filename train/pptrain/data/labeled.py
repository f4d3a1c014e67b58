"""Chooses the labelled target images that a run trains on and those that it validates on; reads no test images."""

from __future__ import annotations

import hashlib

import numpy as np

from ppcore.seeds import numpy_rng
from ppcore.targets import ImageSet, Target, few_shot

VAL_SHARE = 0.1
_FEWEST = 10  # with fewer training labels a class, validation images are worth more as training images


def choose_labeled(target: Target, labels_per_class: int, label_seed: int) -> ImageSet:
    """The labelled training images: all (`labels_per_class` 0), or so many of each class."""
    wanted = labels_per_class or None
    return target.train.select(few_shot(target.train.labels, wanted, label_seed))


def choose_monitored(target: Target, labeled: ImageSet, count: int, label_seed: int) -> ImageSet:
    """`count` training images that are not in `labeled`: their accuracy is logged and must choose nothing."""
    used = set(labeled.ids)
    unused = np.array([p for p, name in enumerate(target.train.ids) if name not in used], dtype=np.int64)
    chosen = numpy_rng(label_seed, "monitor").permutation(unused)[:count]
    return target.train.select(np.sort(chosen))


def val_share(labels: np.ndarray, asked: float | None) -> float:
    """The validation share: `asked`, else a tenth, or 0 if fewer than 10 labels a class would remain for training."""
    if asked is not None:
        return asked
    classes = len(np.unique(labels))
    return VAL_SHARE if len(labels) * (1 - VAL_SHARE) / max(classes, 1) >= _FEWEST else 0.0


def split_validation(images: ImageSet, share: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """(training, validation): `share` of every class, rounded, goes to validation; every class keeps a training image."""
    held: list[int] = []
    if share > 0:
        for label in np.unique(images.labels):
            members = np.flatnonzero(images.labels == label)
            wanted = share * len(members)
            count = min(max(round(wanted), int(wanted >= 0.5)), len(members) - 1)
            held.extend(numpy_rng(seed, "validation", int(label)).permutation(members)[:count].tolist())
    chosen = np.sort(np.array(held, dtype=np.int64))
    rest = np.setdiff1d(np.arange(len(images)), chosen)
    return images.select(rest), images.select(chosen)


def fingerprint(images: ImageSet) -> str:
    """sha256 (hex) of names and labels; it does not depend on the container of the images."""
    digest = hashlib.sha256("\0".join(images.stems).encode())
    digest.update(np.ascontiguousarray(images.labels).tobytes())
    return digest.hexdigest()
