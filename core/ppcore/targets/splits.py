"""Which images are for training, which for test, and which few are labelled."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from ppcore.errors import UserError
from ppcore.seeds import numpy_rng
from ppcore.targets.target import ImageSet

TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "val", "validation", "valid")
_TEST_SHARE = 5  # a target without a test split gives up every fifth image of a class


def few_shot(labels: np.ndarray, per_class: int | None, seed: int) -> np.ndarray:
    """Positions of `per_class` images of every class: int64, ascending.

    Nested (2 labels a class are among 5 labels a class of the same seed) and a function of `labels` and `seed` alone, so
    that ppgen and pptrain choose the same images. None keeps every image.

    Raises:
        UserError: a class has fewer images than asked for.
    """
    if per_class is None:
        return np.arange(len(labels), dtype=np.int64)
    if per_class < 1:
        raise UserError(f"labels per class is {per_class}; give at least 1")
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < per_class:
            raise UserError(
                f"{per_class} labels a class were asked for but class {int(label)} has only {len(members)} training images; "
                f"lower --labels-per-class"
            )
        chosen.append(numpy_rng(seed, "few-shot", int(label)).permutation(members)[:per_class])
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def hold_out(images: ImageSet) -> tuple[ImageSet, ImageSet]:
    """(train, test): a fixed fifth of every class for test, in the order of a hash of the names (so new images change little)."""
    ranks = np.array([hashlib.sha256(name.encode()).hexdigest() for name in images.ids])
    held: list[int] = []
    for label in np.unique(images.labels):
        members = np.flatnonzero(images.labels == label)
        held.extend(members[np.argsort(ranks[members])][: len(members) // _TEST_SHARE].tolist())
    test = np.sort(np.array(held, dtype=np.int64))
    train = np.setdiff1d(np.arange(len(images)), test)
    return images.select(train), images.select(test)


def is_test_file(file: str) -> bool:
    """Whether a file's name, or its folder's, says that it holds test images."""
    return Path(file).name.startswith(TEST_NAMES) or Path(file).parent.name in TEST_NAMES
