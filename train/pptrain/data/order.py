"""The order of training samples: a function of seeds, counts and the step alone, so that a run can resume at any step.

Small sets are permuted as a whole every epoch (:class:`Permuted`). Streams (:class:`LaneOrder`) shuffle the shards of an epoch, cut
the result into equal lanes and let every sample move ahead inside a window. The window bounds how many samples a reader must hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ppcore.seeds import numpy_rng

_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Permuted:
    """An endless sequence of permutations of `samples` items.

    Every item comes once before any comes twice, whatever the batch size.
    """

    samples: int
    seed: int
    name: str

    def positions(self, start: int, count: int) -> np.ndarray:
        """Items number `start` to `start + count` of the endless sequence: int64 (count,)."""
        if count == 0:
            return np.zeros(0, dtype=np.int64)
        first, last = start // self.samples, (start + count - 1) // self.samples
        epochs = [_permutation(self.samples, self.seed, self.name, epoch) for epoch in range(first, last + 1)]
        offset = start - first * self.samples
        return np.concatenate(epochs)[offset : offset + count]


@lru_cache(maxsize=16)
def _permutation(samples: int, seed: int, name: str, epoch: int) -> np.ndarray:
    return numpy_rng(seed, name, epoch).permutation(samples).astype(np.int64)


@dataclass(frozen=True)
class LaneEpoch:
    """One epoch of one lane.

    Attributes:
        shard, row, index: int64 (n,), the lane's samples in reading order, shard after shard.
        order: int64 (n,), the order of emission as positions in reading order; order[k] <= k + window.
    """

    shard: np.ndarray
    row: np.ndarray
    index: np.ndarray
    order: np.ndarray


class LaneOrder:
    """The epochs of one lane of a shard set.

    Every epoch shuffles the shards again and puts them end to end. Lane l of L is the l-th of L equal parts of the result, so every
    sample is seen once an epoch, whatever the sizes of the shards. The sizes of the lanes differ by at most one sample.

    Args:
        sizes: samples of every shard.
        lane, lanes: number of this lane, and how many there are.
        window: places that a sample can move ahead.
        ranks: so many processes divide the lanes, and the lanes of each process have the same lengths. The samples that cannot be
            shared equally, fewer than `ranks`, are left out, in every epoch others.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        seed: int,
        name: str,
        *,
        lane: int,
        lanes: int,
        window: int,
        ranks: int = 1,
    ) -> None:
        self.sizes = np.asarray(sizes, dtype=np.int64)
        self.bases = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        self.total = int(self.sizes.sum())
        self.seed, self.name, self.lane, self.lanes, self.window = seed, name, lane, lanes, window
        self.ranks = ranks

    def length(self, epoch: int) -> int:
        """Samples of this lane in `epoch`."""
        start, stop = self._bounds(epoch)
        return stop - start

    def locate(self, count: int) -> tuple[int, int]:
        """(epoch, position in it) after `count` samples of this lane."""
        cycle = self.lanes  # lengths repeat after as many epochs as there are lanes
        per_cycle = sum(self.length(epoch) for epoch in range(cycle))
        epoch = count // per_cycle * cycle
        rest = count % per_cycle
        while rest >= self.length(epoch):
            rest -= self.length(epoch)
            epoch += 1
        return epoch, rest

    def epoch(self, epoch: int) -> LaneEpoch:
        """The reading and emission order of one epoch."""
        shards = numpy_rng(self.seed, self.name, "shards", epoch).permutation(len(self.sizes))
        ends = np.cumsum(self.sizes[shards])
        start, stop = self._bounds(epoch)
        place = np.arange(start, stop)
        which = np.searchsorted(ends, place, side="right")
        shard = shards[which]
        row = place - (ends[which] - self.sizes[shard])
        drift = numpy_rng(self.seed, self.name, "window", epoch, self.lane).random(stop - start)
        order = np.argsort(np.arange(stop - start) + drift * self.window, kind="stable")
        return LaneEpoch(shard, row, self.bases[shard] + row, order)

    def _bounds(self, epoch: int) -> tuple[int, int]:
        # The lanes rotate, so that the longer lane is another one every epoch: over many epochs all lanes are equally long.
        lanes, total = self.lanes // self.ranks, self.total // self.ranks
        rank, lane = divmod(self.lane, lanes)
        lane = (lane + epoch) % lanes
        return rank * total + lane * total // lanes, rank * total + (lane + 1) * total // lanes


class Mixture:
    """Chooses one of several sources for every draw: in fixed shares, evenly spread by a golden-ratio sequence."""

    def __init__(self, weights: Sequence[float]) -> None:
        shares = np.asarray(weights, dtype=np.float64)
        self.edges = np.cumsum(shares / shares.sum())[:-1]
        self.sources = len(shares)

    def choose(self, start: int, count: int) -> np.ndarray:
        """Source of draws number `start` to `start + count`: int64 (count,)."""
        if self.sources == 1:
            return np.zeros(count, dtype=np.int64)
        place = (np.arange(start, start + count, dtype=np.float64) * _GOLDEN) % 1.0
        return np.searchsorted(self.edges, place, side="right").astype(np.int64)

    def drawn(self, count: int) -> np.ndarray:
        """Draws from each source among the first `count`: int64 (sources,)."""
        totals = np.zeros(self.sources, dtype=np.int64)
        for start in range(0, count, 1 << 20):
            chunk = self.choose(start, min(1 << 20, count - start))
            totals += np.bincount(chunk, minlength=self.sources)
        return totals
