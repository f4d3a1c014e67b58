"""The figures of quality.json. Distances are in feature space: never compare those of different feature extractors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.compute as pc

from ppcore.seeds import numpy_rng
from ppcore.shards import MANIFEST, ShardSet
from ppcore.storage import read_table
from ppgen.quality.features import SampleSet
from ppgen.shards import entropy

_MOST_PRDC = 5000  # samples for precision and recall, whose cost grows with the square of this number
_OF_A_CLASS = 200  # samples of a class that enter the distance within classes
_OVERALL = 2000  # samples that enter the distance of any two
_CHUNK = 1000  # rows of a distance matrix in memory at a time
NEIGHBOURS = 5  # k of precision, recall, density and coverage


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance of the Gaussians fitted to (N, D) and (M, D) features (Heusel et al. 2017, eq. 6).

    |mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2)) with covariances A and B. Zero for equal sets. Few samples bias it upwards, so
    compare only figures of equal N and M.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    difference = a.mean(0) - b.mean(0)
    cov_a, cov_b = _covariance(a), _covariance(b)
    # tr (A B)^(1/2) is the sum of the roots of the eigenvalues of A^(1/2) B A^(1/2), which is symmetric.
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(min=0)).sum()
    return max(0.0, float(difference @ difference + np.trace(cov_a) + np.trace(cov_b) - 2 * cross))


def _covariance(x: np.ndarray) -> np.ndarray:
    return np.atleast_2d(np.cov(x, rowvar=False))


def kid(a: np.ndarray, b: np.ndarray) -> float:
    """Kernel distance (Binkowski et al. 2018): the unbiased estimate of MMD^2 under k(x, y) = (x.y / D + 1)^3.

    Being unbiased, its mean does not depend on the sample sizes, and for equal distributions it may be below zero.

    Args:
        a, b: float (N, D) and (M, D), N and M at least 2.
    """
    within_a, within_b = _kernel_sum(a, a), _kernel_sum(b, b)
    n, m = len(a), len(b)
    own_a = within_a - float(_kernel(np.einsum("nd,nd->n", a, a, dtype=np.float64), a.shape[1]).sum())
    own_b = within_b - float(_kernel(np.einsum("nd,nd->n", b, b, dtype=np.float64), b.shape[1]).sum())
    return own_a / (n * (n - 1)) + own_b / (m * (m - 1)) - 2 * _kernel_sum(a, b) / (n * m)


def _kernel(products: np.ndarray, dimensions: int) -> np.ndarray:
    return (products / dimensions + 1) ** 3


def _kernel_sum(a: np.ndarray, b: np.ndarray) -> float:
    """Sum of k over all pairs."""
    wide = b.astype(np.float64).T
    return sum(
        float(_kernel(a[i : i + _CHUNK].astype(np.float64) @ wide, a.shape[1]).sum())
        for i in range(0, len(a), _CHUNK)
    )


def prdc(real: np.ndarray, fake: np.ndarray, neighbours: int = NEIGHBOURS) -> dict[str, float]:
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020).

    Around every sample is a ball that reaches to its k-th nearest neighbour in its own set. Precision: share of fakes inside some
    real ball. Recall: share of reals inside some fake ball. Density: mean number of real balls that contain a fake, divided by k.
    Coverage: share of real balls that contain a fake.

    Args:
        real: float (N, D), N > k.
        fake: float (M, D), M > k.
    """
    real_radius, fake_radius = radii(real, neighbours), radii(fake, neighbours)
    in_real = np.zeros(len(fake), dtype=np.int64)  # real balls every fake is in
    covered = np.zeros(len(real), dtype=bool)
    recalled = np.zeros(len(real), dtype=bool)
    for rows, distances in pairwise(real, fake):
        inside = distances < real_radius[rows, None]  # (chunk of N, M)
        in_real += inside.sum(axis=0)
        covered[rows] = inside.any(axis=1)
        recalled[rows] = (distances < fake_radius[None, :]).any(axis=1)
    return {
        "precision": float((in_real > 0).mean()),
        "recall": float(recalled.mean()),
        "density": float(in_real.mean() / neighbours),
        "coverage": float(covered.mean()),
    }


def radii(x: np.ndarray, neighbours: int) -> np.ndarray:
    """Distance of every sample to its k-th nearest other sample: float64 (N,)."""
    radius = np.empty(len(x))
    for rows, distances in pairwise(x, x):
        # Position 0 is the sample itself.
        radius[rows] = np.partition(distances, neighbours, axis=1)[:, neighbours]
    return radius


def pairwise(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Chunk by chunk: (positions in a, their Euclidean distances to all of b, float64 (chunk, M))."""
    wide = b.astype(np.float64)
    squares = np.einsum("md,md->m", wide, wide)
    for first in range(0, len(a), _CHUNK):
        rows = np.arange(first, min(first + _CHUNK, len(a)))
        part = a[rows].astype(np.float64)
        squared = np.einsum("nd,nd->n", part, part)[:, None] + squares[None, :] - 2 * part @ wide.T
        yield rows, np.sqrt(squared.clip(min=0))


def mean_distance(x: np.ndarray) -> float:
    """Mean Euclidean distance of two different samples of (N, D), N at least 2."""
    total = sum(float(distances.sum()) for _, distances in pairwise(x, x))
    return total / (len(x) * (len(x) - 1))


def class_spread(features: np.ndarray, groups: np.ndarray, seed: int) -> dict[str, float] | None:
    """How varied the samples of a class are: mean feature distance within classes, of any two samples, and their ratio.

    A ratio near zero means that the samples of a class repeat each other.

    Args:
        features: (N, D).
        groups: int (N,), class of each sample.

    Returns:
        None where no class has two samples.
    """
    random = numpy_rng(seed, "spread")
    within = []
    for group in np.unique(groups):
        members = random.permutation(np.flatnonzero(groups == group))[:_OF_A_CLASS]
        if len(members) > 1:
            within.append(mean_distance(features[members]))
    if not within:
        return None
    overall = mean_distance(features[random.permutation(len(features))[:_OVERALL]])
    return {
        "within_class": float(np.mean(within)),
        "overall": overall,
        "ratio": float(np.mean(within) / overall) if overall else 0.0,
    }


def compare_sets(reference: SampleSet, candidates: list[SampleSet], seed: int) -> list[dict[str, Any]]:
    """Distances of every candidate's features to the reference's, in rows as quality.json holds them.

    The same number of samples is taken of each candidate. The last row compares two halves of the reference, as a scale.
    """
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
        "frechet": frechet(a, b),
        "kid": kid(a, b),
    }
    if min(len(a), len(b)) > NEIGHBOURS:
        few_a, few_b = (s.take(_MOST_PRDC, seed).features for s in (candidate, reference))
        assert few_a is not None
        assert few_b is not None
        figures.update(prdc(real=few_b, fake=few_a))
    return figures


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
