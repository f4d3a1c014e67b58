"""How far sets of samples are from a reference, and how varied the samples of a class are."""

from __future__ import annotations

from typing import Any

import numpy as np

from ppcore.seeds import numpy_rng
from ppgen.quality import distances
from ppgen.quality.features import SampleSet

_MOST_PRDC = 5000  # samples; its cost grows with the square
_OF_A_CLASS = 200  # samples of a class that enter the intra-class distance
_OVERALL = 2000


def class_spread(features: np.ndarray, groups: np.ndarray, seed: int) -> dict[str, float] | None:
    """Mean feature distance of two samples of the same class, and of any two; None where no class has two.

    A ratio near zero says that a class repeats itself.
    """
    random = numpy_rng(seed, "spread")
    within = []
    for group in np.unique(groups):
        members = random.permutation(np.flatnonzero(groups == group))[:_OF_A_CLASS]
        if len(members) > 1:
            within.append(distances.mean_distance(features[members]))
    if not within:
        return None
    overall = distances.mean_distance(features[random.permutation(len(features))[:_OVERALL]])
    return {
        "within_class": float(np.mean(within)),
        "overall": overall,
        "ratio": float(np.mean(within) / overall) if overall else 0.0,
    }


def compare_sets(reference: SampleSet, candidates: list[SampleSet], seed: int) -> list[dict[str, Any]]:
    """Distances of every candidate's features to the reference's, as many samples of each candidate, and as a scale that of
    two halves of the reference to each other."""
    smallest = min(len(candidate) for candidate in candidates)
    rows = [
        _distance(candidate.take(smallest, seed), reference, seed) for candidate in candidates if smallest > 1
    ]
    order = numpy_rng(seed, "halves").permutation(len(reference))
    half = len(order) // 2
    if half > 1:
        first, second = (reference.select(positions) for positions in (order[:half], order[half : 2 * half]))
        floor = _distance(first, second, seed)
        rows.append({**floor, "of": f"half of the {reference.name}", "to": "the other half"})
    return rows


def _distance(candidate: SampleSet, reference: SampleSet, seed: int) -> dict[str, Any]:
    a, b = candidate.features, reference.features
    assert a is not None
    assert b is not None
    figures: dict[str, Any] = {
        "of": candidate.name,
        "to": reference.name,
        "samples": [len(a), len(b)],
        "frechet": distances.frechet(a, b),
        "kid": distances.kid(a, b),
    }
    if min(len(a), len(b)) > distances.NEIGHBOURS:
        few_a, few_b = (s.take(_MOST_PRDC, seed).features for s in (candidate, reference))
        assert few_a is not None
        assert few_b is not None
        figures.update(distances.prdc(real=few_b, fake=few_a))
    return figures
