"""The target `digits`: scikit-learn's real handwritten digits."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image

from ppcore.targets.pixels import array_set
from ppcore.targets.target import Splits

_TEST_IMAGES = 900


def read_digits() -> Splits:
    """1,797 handwritten digits (Alpaydin & Kaynak 1998, UCI, 8x8, 16 grey levels), enlarged to 32x32.

    One pixel of padding, then bicubic; 900 images held out for test by a fixed permutation.
    """
    images, labels = _digits()
    order = np.random.default_rng(0).permutation(len(labels))
    test, train = np.sort(order[:_TEST_IMAGES]), np.sort(order[_TEST_IMAGES:])
    whole = array_set([f"digits-{i:04d}" for i in range(len(labels))], labels, images)
    return Splits(whole.select(train), whole.select(test), tuple("0123456789"))


@lru_cache(maxsize=1)
def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 32, 32, 1) and labels int64 (N,)."""
    from sklearn.datasets import load_digits  # heavy: half a second that other targets do not need

    data = load_digits()
    small = np.pad(np.round(data.images * 255 / 16).astype(np.uint8), ((0, 0), (1, 1), (1, 1)))
    large = [np.asarray(Image.fromarray(i).resize((32, 32), Image.Resampling.BICUBIC)) for i in small]
    return np.stack(large)[:, :, :, None], data.target.astype(np.int64)
