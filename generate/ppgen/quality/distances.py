"""How far two sets of features are apart. Pure functions; figures of different feature extractors must never be compared."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_CHUNK = 1000  # rows of a distance matrix held at a time
NEIGHBOURS = 5


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance of the Gaussians fitted to (N, D) and (M, D) features (Heusel et al. 2017, eq. 6).

    |mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2)) with covariances A, B. Biased upwards for few samples: compare only figures of
    equal N and M. Zero for equal sets.
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

    Unbiased, so its mean does not depend on the sample sizes and it can come out below zero for equal distributions.

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

    A ball around every sample reaches to its k-th nearest neighbour in its own set. precision: fakes inside some real ball;
    recall: reals inside some fake ball; density: real balls a fake is in, over k; coverage: real balls with a fake in them.

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
    found = np.empty(len(x))
    for rows, distances in pairwise(x, x):
        # Position 0 is the sample itself.
        found[rows] = np.partition(distances, neighbours, axis=1)[:, neighbours]
    return found


def pairwise(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(positions in a, Euclidean distances (chunk, M) to all of b), chunk by chunk."""
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
