"""Sets that fit in memory: one uint8 tensor, permuted as a whole every epoch."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import torch
from torch import Tensor

from pptrain.data.decoding import decode_into
from pptrain.data.feed import BatchShare, RawBatch
from pptrain.data.order import Mixture, Permuted
from pptrain.data.shard_pool import ShardPool


class ResidentFeed:
    """A set held in memory as one uint8 tensor, permuted as a whole every epoch.

    Args:
        images: uint8 (N, C, H, W); batches are gathered on the device they are on.
        labels: int64 (N,), on the same device.
        keys: names of the N images.
        sizes, weights: images of each source, one after the other in the set, and their shares of every batch; empty mixes
            them by size.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        keys: Sequence[str],
        share: BatchShare,
        *,
        seed: int,
        name: str,
        sizes: Sequence[int] = (),
        weights: Sequence[float] = (),
    ) -> None:
        self.images, self.labels, self.keys, self.share = images, labels, keys, share
        self.samples = images.shape[0]
        self.mixture = Mixture(weights) if weights else Mixture([1.0])
        sizes = sizes if weights else [self.samples]
        self.bases = np.cumsum([0, *sizes])[:-1]
        self.orders = [Permuted(n, seed, f"{name}-{i}") for i, n in enumerate(sizes)]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.images.shape[1:])

    def batches(self, start: int) -> Generator[RawBatch, None, None]:
        share = self.share
        drawn = self.mixture.drawn(start * share.batch)
        while True:
            index = torch.from_numpy(self._positions(start * share.batch, drawn))
            index = index[share.rank * share.local : (share.rank + 1) * share.local]
            where = index.to(self.images.device, non_blocking=True)
            yield RawBatch(self.images[where], self.labels[where], index)
            start += 1

    def _positions(self, first: int, drawn: np.ndarray) -> np.ndarray:
        """Positions of one global batch, int64 (B,); counts the draws of each source in `drawn`."""
        chosen = self.mixture.choose(first, self.share.batch)
        positions = np.empty_like(chosen)
        for source, order in enumerate(self.orders):
            mine = chosen == source
            count = int(mine.sum())
            positions[mine] = self.bases[source] + order.positions(int(drawn[source]), count)
            drawn[source] += count
        return positions

    def key(self, index: int) -> str:
        return self.keys[index]

    def to(self, device: torch.device) -> None:
        """Move the set to a device; batches are then gathered there."""
        self.images, self.labels = self.images.to(device), self.labels.to(device)


def load_resident(pools: Sequence[ShardPool]) -> tuple[Tensor, Tensor, list[str]]:
    """Decode whole pools: uint8 (N, C, H, W), dense labels int64 (N,), keys."""
    total, first = sum(pool.samples for pool in pools), pools[0]
    images = np.empty((total, first.resolution, first.resolution, first.channels), dtype=np.uint8)
    labels = np.empty(total, dtype=np.int64)
    keys: list[str] = []
    for pool in pools:
        for shard in range(len(pool.refs)):
            where = pool.where(shard)
            for sample in pool.read(shard):
                decode_into(sample, images[len(keys)], where)
                labels[len(keys)] = pool.label(sample, shard)
                keys.append(f"{where}:{sample.key}")
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels), keys
