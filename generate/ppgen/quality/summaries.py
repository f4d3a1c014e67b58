"""Many values in a few numbers, as quality.json holds them."""

from __future__ import annotations

import numpy as np

BINS = 20


def summary(values: np.ndarray) -> dict[str, float]:
    """Mean and quartiles."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {
        "mean": float(values.mean()),
        "lower_quartile": float(low),
        "median": float(middle),
        "upper_quartile": float(high),
    }


def histogram(values: np.ndarray, low: float, high: float) -> dict[str, list[float]]:
    """{"edges", "counts"} of equal bins; values beyond the ends count to the last bins."""
    counts, edges = np.histogram(values.clip(low, high), bins=BINS, range=(low, max(high, low + 1e-9)))
    return {"edges": [float(edge) for edge in edges], "counts": [int(count) for count in counts]}
