"""The quality figures of a shard directory that need no download: counts, agreement, duplicates, distances."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ppcore.seeds import numpy_rng
from ppcore.shards import MANIFEST, ShardSet
from ppcore.storage import read_table
from ppgen.quality import distances, duplicates
from ppgen.quality.features import Seen
from ppgen.shards import entropy

BINS = 20
_MOST_PRDC = 5000  # samples; its cost grows with the square
_OF_A_CLASS = 200  # samples of a class that enter the intra-class distance
_OVERALL = 2000


@dataclass(frozen=True)
class Sight:
    """A set of images, looked at.

    Attributes:
        name: in words, for the report.
    """

    name: str
    seen: Seen


def from_manifest(shards: ShardSet) -> dict[str, Any]:
    """What the manifest alone tells, of every sample: classes, entropy of the conditions, exact duplicates, redraws."""
    columns = ["class", "entropy", "sha256", "attempt", "confidence"]
    with shards.store.open(MANIFEST) as handle:
        table = read_table(handle, shards.samples, columns=columns)
    told: dict[str, Any] = {"samples": len(table)}
    labels = table.column("class")
    if not labels.null_count:
        counts = np.bincount(labels.to_numpy(), minlength=shards.num_classes)
        present = np.flatnonzero(counts)
        told["per_class"] = {shards.class_names[c]: int(counts[c]) for c in present}
        told["classes"] = {
            "present": len(present),
            "fewest": int(counts[present].min()),
            "most": int(counts.max()),
        }
    else:
        spread = table.column("entropy").to_numpy()
        told["condition_entropy"] = histogram(spread, 0.0, float(np.log(shards.num_classes)))
        told["effective_classes"] = float(np.exp(spread).mean())
    told["exact_duplicates"] = duplicates.repeated(
        duplicates.digest_prefixes(table.column("sha256").to_pylist())
    )
    rule = shards.plan.get("redraw")
    if rule is not None:
        told["redraw"] = {
            **rule,
            "redrawn": int((table.column("attempt").to_numpy() > 0).sum()),
            "kept_below": int((table.column("confidence").to_numpy() < rule["below"]).sum()),
        }
    return told


def agreement(seen: Seen, names: list[str]) -> dict[str, Any]:
    """What the source classifier makes of samples, against what they were conditioned on.

    One-hot conditions: share of samples whose most probable class is the condition. Soft ones: expected probability
    sum_k c_k p_k, beside the sum_k c_k^2 that an exact echo of the condition would get, and KL(c || p) in nats.
    """
    assert seen.probabilities is not None
    assert seen.condition is not None
    p, c = seen.probabilities.astype(np.float64), seen.condition.astype(np.float64)
    top, wanted = p.argmax(1), c.argmax(1)
    same, confidence = top == wanted, (p * c).sum(1)
    told: dict[str, Any] = {
        "soft": bool((c.max(1) < 1).any()),
        "agreement": float(same.mean()),
        "confidence": {**summary(confidence), "histogram": histogram(confidence, 0.0, 1.0)},
        "entropy": {
            **summary(entropy(seen.probabilities)),
            "histogram": histogram(entropy(seen.probabilities), 0.0, float(np.log(p.shape[1]))),
        },
        "per_class": {
            names[k]: {"looked_at": int((wanted == k).sum()), "agreement": float(same[wanted == k].mean())}
            for k in np.unique(wanted)
        },
    }
    if told["soft"]:
        ratio = np.log(c.clip(min=1e-12) / p.clip(min=1e-12))
        told["echo"] = float((c * c).sum(1).mean())
        told["kl"] = summary((c * ratio).sum(1))
    return told


def look_alikes(seen: Seen) -> dict[str, Any]:
    """Perceptual duplicates in a sample: same hash, and within a few bits of another's."""
    found = duplicates.groups(seen.hashes)
    return {
        "looked_at": len(seen),
        "same_hash": sum(len(group) - 1 for group in found),
        "near": int(duplicates.near(seen.hashes).sum()),
        "bits": duplicates.NEAR_BITS,
    }


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


def compare(reference: Sight, candidates: list[Sight], seed: int) -> list[dict[str, Any]]:
    """Distances of every candidate's features to the reference's, as many samples of each candidate, and as a scale that of
    two halves of the reference to each other."""
    smallest = min(len(candidate.seen) for candidate in candidates)
    rows = [
        _distance(take(candidate, smallest, seed), reference, seed)
        for candidate in candidates
        if smallest > 1
    ]
    order = numpy_rng(seed, "halves").permutation(len(reference.seen))
    half = len(order) // 2
    if half > 1:
        first, second = (_part(reference, positions) for positions in (order[:half], order[half : 2 * half]))
        floor = _distance(first, second, seed)
        rows.append({**floor, "of": f"half of the {reference.name}", "to": "the other half"})
    return rows


def _distance(candidate: Sight, reference: Sight, seed: int) -> dict[str, Any]:
    a, b = candidate.seen.features, reference.seen.features
    assert a is not None
    assert b is not None
    told: dict[str, Any] = {
        "of": candidate.name,
        "to": reference.name,
        "samples": [len(a), len(b)],
        "frechet": distances.frechet(a, b),
        "kid": distances.kid(a, b),
    }
    if min(len(a), len(b)) > distances.NEIGHBOURS:
        few_a, few_b = (take(s, _MOST_PRDC, seed).seen.features for s in (candidate, reference))
        assert few_a is not None
        assert few_b is not None
        told.update(distances.prdc(real=few_b, fake=few_a))
    return told


def take(sight: Sight, count: int, seed: int) -> Sight:
    """A fixed random part of so many samples; all when there are no more."""
    if len(sight.seen) <= count:
        return sight
    return _part(sight, numpy_rng(seed, "take").permutation(len(sight.seen))[:count])


def _part(sight: Sight, positions: np.ndarray) -> Sight:
    seen = sight.seen

    def at(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[positions]

    part = Seen(
        seen.position[positions],
        seen.hashes[positions],
        at(seen.condition),
        at(seen.features),
        at(seen.probabilities),
    )
    return replace(sight, seen=part)


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
