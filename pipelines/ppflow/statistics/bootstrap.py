"""How much of a difference hangs on which test images there happened to be: a bootstrap over them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Correct = Mapping[int, np.ndarray]
"""Seed -> bool (N,): which of the N test images the classifier of that seed got right, always in the same order."""
_DRAWS = 10_000


def image_interval(row: Correct, other: Correct, confidence: float = 0.95) -> tuple[float, float] | None:
    """Percentile interval of the mean difference in points when N test images are drawn again from the N (Efron 1979).

    The seeds are kept: this is the uncertainty that Student's interval over seeds, all judged on the same images, leaves out.
    Images of equal difference are alike, so that their counts are drawn from a multinomial distribution, whatever N is.

    Returns:
        (low, high); None where no seed is common to both or their test images differ in number.
    """
    seeds = sorted(row.keys() & other.keys())
    if not seeds or len({len(correct[seed]) for seed in seeds for correct in (row, other)}) != 1:
        return None
    deltas = np.stack([row[seed].astype(int) - other[seed].astype(int) for seed in seeds])  # (S, N)
    values, counts = np.unique(deltas.sum(0), return_counts=True)
    images = int(counts.sum())
    drawn = np.random.default_rng(0).multinomial(images, counts / images, size=_DRAWS)  # (draws, values)
    means = 100 * (drawn @ values) / (images * len(seeds))
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)
