"""The figures of quality.json that need no reference: the manifest's, agreement with the source classifier, look-alikes."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow.compute as pc

from ppcore.shards import MANIFEST, ShardSet
from ppcore.storage import read_table
from ppgen.quality.features import SampleSet
from ppgen.shards import entropy

BINS = 20
NEAR_BITS = 2  # of 64; images whose hashes are this close count as look-alikes
_CHUNK = 1000


def manifest_figures(shards: ShardSet) -> dict[str, Any]:
    """Figures of all samples from the manifest alone: samples of each class or entropy of the soft labels, and equal files."""
    with shards.store.open(MANIFEST) as handle:
        table = read_table(handle, shards.samples, columns=["class", "entropy", "sha256"])
    figures: dict[str, Any] = {"samples": len(table)}
    labels = table.column("class")
    if not labels.null_count:
        counts = np.bincount(labels.to_numpy(), minlength=shards.num_classes)
        present = np.flatnonzero(counts)
        figures["per_class"] = {shards.class_names[c]: int(counts[c]) for c in present}
        figures["classes"] = {
            "present": len(present),
            "fewest": int(counts[present].min()),
            "most": int(counts.max()),
        }
    else:
        spread = table.column("entropy").to_numpy()
        figures["condition_entropy"] = histogram(spread, 0.0, float(np.log(shards.num_classes)))
        figures["effective_classes"] = float(np.exp(spread).mean())
    figures["exact_duplicates"] = len(table) - pc.count_distinct(table.column("sha256")).as_py()
    return figures


def measure_agreement(samples: SampleSet, names: list[str]) -> dict[str, Any]:
    """How the source classifier's predictions p agree with the conditions c of the samples.

    `agreement` is the share of samples whose most probable class is the condition's largest, `confidence` the expected
    probability sum_k c_k p_k. Soft conditions also have `echo`, the expected probability sum_k c_k^2 of predictions that equal
    the condition, and `kl`, KL(c || p) in nats.

    Args:
        samples: with condition and probabilities.
        names: class names.
    """
    assert samples.probabilities is not None
    assert samples.condition is not None
    p, c = samples.probabilities.astype(np.float64), samples.condition.astype(np.float64)
    top, wanted = p.argmax(1), c.argmax(1)
    same, confidence = top == wanted, (p * c).sum(1)
    figures: dict[str, Any] = {
        "soft": bool((c.max(1) < 1).any()),
        "agreement": float(same.mean()),
        "confidence": {**summary(confidence), "histogram": histogram(confidence, 0.0, 1.0)},
        "entropy": {
            **summary(entropy(samples.probabilities)),
            "histogram": histogram(entropy(samples.probabilities), 0.0, float(np.log(p.shape[1]))),
        },
        "per_class": {
            names[k]: {"looked_at": int((wanted == k).sum()), "agreement": float(same[wanted == k].mean())}
            for k in np.unique(wanted)
        },
    }
    if figures["soft"]:
        ratio = np.log(c.clip(min=1e-12) / p.clip(min=1e-12))
        figures["echo"] = float((c * c).sum(1).mean())
        figures["kl"] = summary((c * ratio).sum(1))
    return figures


def near(hashes: np.ndarray, bits: int = NEAR_BITS) -> np.ndarray:
    """For each hash whether another one differs in at most `bits` bits: uint64 (N,) -> bool (N,)."""
    close = np.zeros(len(hashes), dtype=bool)
    for first in range(0, len(hashes), _CHUNK):
        part = hashes[first : first + _CHUNK]
        distances = np.bitwise_count(part[:, None] ^ hashes[None, :])
        distances[np.arange(len(part)), first + np.arange(len(part))] = 64  # a hash is not near itself
        close[first : first + _CHUNK] = (distances <= bits).any(axis=1)
    return close


def groups(hashes: np.ndarray) -> list[list[int]]:
    """Groups of positions with the same hash, the largest first; only groups of two and more."""
    by_hash: dict[int, list[int]] = defaultdict(list)
    for position, value in enumerate(hashes.tolist()):
        by_hash[value].append(position)
    several = [group for group in by_hash.values() if len(group) > 1]
    return sorted(several, key=lambda group: (-len(group), group))


def look_alikes(hashes: np.ndarray) -> dict[str, Any]:
    """Images that look alike, by their hashes: how many repeat a hash, and how many are within a few bits of another."""
    return {
        "looked_at": len(hashes),
        "same_hash": sum(len(group) - 1 for group in groups(hashes)),
        "near": int(near(hashes).sum()),
        "bits": NEAR_BITS,
    }


def summary(values: np.ndarray) -> dict[str, float]:
    """Mean and quartiles of (N,) values."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {
        "mean": float(values.mean()),
        "lower_quartile": float(low),
        "median": float(middle),
        "upper_quartile": float(high),
    }


def histogram(values: np.ndarray, low: float, high: float) -> dict[str, list[float]]:
    """{"edges", "counts"} of bins of equal width; values outside [low, high] count in the outer bins."""
    counts, edges = np.histogram(values.clip(low, high), bins=BINS, range=(low, max(high, low + 1e-9)))
    return {"edges": [float(edge) for edge in edges], "counts": [int(count) for count in counts]}
