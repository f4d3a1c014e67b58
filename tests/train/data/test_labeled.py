"""The split of labelled images into training and validation."""

from __future__ import annotations

import numpy as np
import pytest

from ppcore.targets import ImageSet
from pptrain.data import split_validation


@pytest.mark.parametrize(
    ("share", "counts", "held"),
    [
        (0.1, (120, 60, 1, 2, 4, 5), (12, 6, 0, 0, 0, 1)),
        (0.25, (12, 12, 3), (3, 3, 1)),
        (0.9, (1, 2, 3), (0, 1, 2)),
        (0.0, (9, 9), (0, 0)),
    ],
)
def test_small_classes_stay_out_of_validation(
    share: float, counts: tuple[int, ...], held: tuple[int, ...]
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    images = ImageSet([str(i) for i in range(len(labels))], labels, lambda p: np.zeros((2, 2, 1), np.uint8))
    train, val = split_validation(images, share, seed=0)
    assert np.bincount(val.labels, minlength=len(counts)).tolist() == list(held)
    assert sorted(train.ids + val.ids) == sorted(images.ids)
