"""A seeded permutation of range(n) that is computed element by element, without a table."""

from __future__ import annotations

import numpy as np

from ppcore.seeds import derive

_ROUNDS = 6


def permute(positions: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Images of `positions` under the pseudo-random permutation of range(`size`) that `seed` names.

    A Feistel network over the next power of four with cycle walking (Black & Rogaway 2002). Not
    `numpy.random.Generator.permutation`: numpy does not promise the same stream in every version (NEP 19), and the whole
    table would have to be held by every worker.

    Args:
        positions: integers in [0, size), any shape.
        size: length of the permuted range, at least 1.
        seed: 63-bit seed.

    Returns:
        int64 array of the shape of `positions`.
    """
    half_bits = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    keys = [np.uint64(derive(seed, "feistel", round_)) for round_ in range(_ROUNDS)]
    values = np.asarray(positions).astype(np.uint64)
    shape = values.shape
    values = _feistel(values.ravel(), half_bits, keys)
    outside = np.flatnonzero(values >= np.uint64(size))
    while outside.size:
        values[outside] = _feistel(values[outside], half_bits, keys)
        outside = outside[values[outside] >= np.uint64(size)]
    return values.astype(np.int64).reshape(shape)


def _feistel(values: np.ndarray, half_bits: np.uint64, keys: list[np.uint64]) -> np.ndarray:
    mask = (np.uint64(1) << half_bits) - np.uint64(1)
    left, right = values >> half_bits, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << half_bits) | right


def _mix(z: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele et al. 2014), element by element."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
