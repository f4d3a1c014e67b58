"""The soft labels that the report shows as the best and the worst."""

import numpy as np
import pytest

from ppcore.targets import ImageSet, Target
from ppflow.report.samples import margins_of

SOFT = {
    "a0": [1.0, 0.0, 0.0],
    "a1": [0.9, 0.1, 0.0],
    "b0": [0.0, 1.0, 0.0],
    "b1": [0.8, 0.2, 0.0],  # looks like an a
    "c0": [0.0, 0.0, 1.0],  # alone in its class
}


def target() -> Target:
    labels = np.array(["abc".index(name[0]) for name in SOFT])
    images = ImageSet(list(SOFT), labels, lambda position: np.zeros((8, 8, 1), np.uint8))
    return Target("t", ("a", "b", "c"), images, images.select([]))


def test_the_margin_is_the_likeness_to_the_own_class_minus_that_to_the_nearest_other() -> None:
    margins = margins_of({name: np.array(row) for name, row in SOFT.items()}, target())
    assert sorted(margins) == ["a0", "a1", "b0", "b1"]
    mean_b = np.array([0.0, 1.0, 0.0]) + np.array([0.8, 0.2, 0.0]) / np.hypot(0.8, 0.2)
    own = 0.9 / np.hypot(0.9, 0.1)
    assert margins["a0"] == pytest.approx(own - mean_b[0] / np.linalg.norm(mean_b))
    assert max(margins, key=lambda name: margins[name]) == "a0"
    assert min(margins, key=lambda name: margins[name]) == "b1"
    assert margins["b1"] < 0 < margins["a1"]


def test_images_that_the_target_does_not_have_have_no_margin() -> None:
    assert margins_of({"elsewhere": np.ones(3)}, target()) == {}
