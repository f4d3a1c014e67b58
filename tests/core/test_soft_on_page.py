"""Soft labels on a page: class names for people, the label before it was sharpened."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ppcore.classifiers import soft_labels
from ppcore.page.samples import Conditioned, class_words, pairs, raw_label


@pytest.mark.parametrize("temperature", [0.3, 0.8])
def test_the_label_before_it_was_sharpened(temperature: float) -> None:
    logits = torch.randn(20, 50, generator=torch.Generator().manual_seed(0))
    used, raw = soft_labels(logits, temperature, None).numpy(), soft_labels(logits, 1.0, None).numpy()
    for row in range(20):
        np.testing.assert_allclose(raw_label(used[row], temperature), raw[row], rtol=1e-6)


def test_wordnet_ids_are_shown_as_words() -> None:
    assert class_words(["n01440764", "n99999999"]) == ["tench", "n99999999"]
    assert class_words(["tench", "x"]) == ["tench", "x"]


def test_a_sharpened_label_is_shown_with_the_one_before() -> None:
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    assert "tench 0.50 (0.20)" in pairs([Conditioned("a", image, [("tench", 0.5)], [image], [0.2])])
    assert "tench 0.50<" in pairs([Conditioned("a", image, [("tench", 0.5)], [image])])
