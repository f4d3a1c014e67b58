"""Images that occur more than once: byte for byte, or to the eye."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from ppcore.classifiers import to_grey

NEAR_BITS = 2  # of 64; hashes this close count as one picture
_CHUNK = 1000


def dhash(images: torch.Tensor) -> np.ndarray:
    """Difference hash (Krawetz 2013): which of 8 x 9 averaged grey cells are brighter than their left neighbour.

    Args:
        images: uint8 (B, C, H, W).

    Returns:
        uint64 (B,).
    """
    x = images.float()
    x = to_grey(x) if x.shape[1] == 3 else x
    x = F.adaptive_avg_pool2d(x, (8, 9))  # (B, 1, 8, 9)
    bits = (x[..., 1:] > x[..., :-1]).flatten(1).numpy()  # (B, 64)
    return np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)


def near(hashes: np.ndarray, bits: int = NEAR_BITS) -> np.ndarray:
    """Whether another hash differs in at most so many bits: bool (N,)."""
    found = np.zeros(len(hashes), dtype=bool)
    for first in range(0, len(hashes), _CHUNK):
        part = hashes[first : first + _CHUNK]
        distances = np.bitwise_count(part[:, None] ^ hashes[None, :])
        distances[np.arange(len(part)), first + np.arange(len(part))] = 64  # not to itself
        found[first : first + _CHUNK] = (distances <= bits).any(axis=1)
    return found


def groups(hashes: np.ndarray) -> list[list[int]]:
    """Positions that share a hash, the largest group first; single ones left out."""
    by_hash: dict[int, list[int]] = defaultdict(list)
    for position, value in enumerate(hashes.tolist()):
        by_hash[value].append(position)
    return sorted(
        (found for found in by_hash.values() if len(found) > 1), key=lambda found: (-len(found), found)
    )


def digest_prefixes(digests: list[str]) -> np.ndarray:
    """The first 64 bits of hexadecimal sha256 digests: uint64 (N,); a million fit in 8 MB."""
    return np.array([int(digest[:16], 16) for digest in digests], dtype=np.uint64)


def repeated(values: np.ndarray) -> int:
    """How many entries equal an earlier one."""
    return int(len(values) - len(np.unique(values)))


def look_alikes(hashes: np.ndarray) -> dict[str, Any]:
    """Perceptual duplicates among n images: how many repeat a hash, and how many are within a few bits of another's."""
    return {
        "looked_at": len(hashes),
        "same_hash": sum(len(group) - 1 for group in groups(hashes)),
        "near": int(near(hashes).sum()),
        "bits": NEAR_BITS,
    }
