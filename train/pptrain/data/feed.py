"""Batches of stored images: what a batch is, which part of it a process makes, and batches of sets held in memory."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import tee
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ppcore.errors import UserError
from ppcore.images import Preparation
from ppcore.targets import ImageSet, decode_ahead
from pptrain.data.order import Mixture, Permuted
from pptrain.data.shard_pool import ShardPool
from pptrain.data.transforms import decode_into


class RawBatch(NamedTuple):
    """One batch as it was stored, before any view is made of it.

    Attributes:
        images: uint8 (B, C, H, W).
        labels: int64 (B,), -1 for images without a label.
        ids: int64 (B,), positions of the images in the whole set.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor


@dataclass(frozen=True)
class BatchShare:
    """The part of every global batch that this process makes.

    Attributes:
        batch: images of a global batch, over all processes.
        rank, world_size: number of this process, and how many processes train together.
        groups: parts of equal size that a global batch is cut into, a multiple of `world_size`. The order of a stream depends on
            the number of groups and not on the number of processes.
    """

    batch: int
    rank: int = 0
    world_size: int = 1
    groups: int = 1

    def __post_init__(self) -> None:
        if self.groups % self.world_size or self.batch % self.groups:
            raise UserError(
                f"a batch of {self.batch} images in {self.groups} groups cannot be shared by {self.world_size} processes; make "
                f"the batch a multiple of data.groups, and data.groups a multiple of the number of processes"
            )

    @property
    def local(self) -> int:
        """Images of a batch in this process."""
        return self.batch // self.world_size

    @property
    def group(self) -> int:
        """Images of a batch in one group."""
        return self.batch // self.groups

    @property
    def local_groups(self) -> range:
        """Numbers of the groups that this process makes."""
        each = self.groups // self.world_size
        return range(self.rank * each, (self.rank + 1) * each)


class Feed(Protocol):
    """An endless sequence of batches that can be repeated exactly from any batch on."""

    samples: int
    share: BatchShare

    def batches(self, start: int) -> Generator[RawBatch, None, None]:
        """Batches number `start`, `start + 1`, ..."""

    def key(self, index: int) -> str:
        """Name of the image at position `index`."""


class _Order:
    """The order of a set of which every epoch permutes the whole.

    Args:
        sizes: images of each source; the sources follow one another in the set.
        weights: share of each source in every batch; without weights all images are one source.
    """

    def __init__(
        self, share: BatchShare, sizes: Sequence[int], weights: Sequence[float], *, seed: int, name: str
    ) -> None:
        self.share, self.mixture = share, Mixture(weights or [1.0])
        sizes = sizes if weights else [sum(sizes)]
        self.bases = np.cumsum([0, *sizes])[:-1]
        self.orders = [Permuted(n, seed, f"{name}-{i}") for i, n in enumerate(sizes)]

    def batches(self, start: int) -> Iterator[Tensor]:
        """This process's positions in batches number `start`, `start + 1`, ...: int64 (B,)."""
        share = self.share
        drawn = self.mixture.drawn(start * share.batch)
        while True:
            index = torch.from_numpy(self._positions(start * share.batch, drawn))
            yield index[share.rank * share.local : (share.rank + 1) * share.local]
            start += 1

    def _positions(self, first: int, drawn: np.ndarray) -> np.ndarray:
        """Positions of one global batch, int64 (B,); adds the draws of each source to `drawn`."""
        chosen = self.mixture.choose(first, self.share.batch)
        positions = np.empty_like(chosen)
        for source, order in enumerate(self.orders):
            mine = chosen == source
            count = int(mine.sum())
            positions[mine] = self.bases[source] + order.positions(int(drawn[source]), count)
            drawn[source] += count
        return positions


class ResidentFeed:
    """A set held in memory as one uint8 tensor; every epoch permutes the whole set.

    Args:
        images: uint8 (N, C, H, W). Batches are gathered on the device of this tensor.
        labels: int64 (N,), on the same device.
        keys: names of the N images.
        sizes, weights: for a mixture of several sources that follow one another in the set: images of each source, and its share
            of every batch. Without weights the sources are mixed by size.
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
        self.order = _Order(share, sizes or [self.samples], weights, seed=seed, name=name)

    def batches(self, start: int) -> Generator[RawBatch, None, None]:
        for index in self.order.batches(start):
            where = index.to(self.images.device, non_blocking=True)
            yield RawBatch(self.images[where], self.labels[where], index)

    def key(self, index: int) -> str:
        return self.keys[index]

    def to(self, device: torch.device) -> None:
        """Move the set to a device."""
        self.images, self.labels = self.images.to(device), self.labels.to(device)


class DecodingFeed:
    """Target images that need too much memory: threads decode every batch anew. Batches are those of :class:`ResidentFeed`.

    Args:
        images: N images; a batch has them as uint8 (B, `channels`, `resolution`, `resolution`).
        labels: int64 (N,).
    """

    def __init__(
        self,
        images: ImageSet,
        labels: Tensor,
        share: BatchShare,
        *,
        resolution: int,
        channels: int,
        seed: int,
        name: str,
    ) -> None:
        self.images, self.labels, self.share, self.samples = images, labels, share, len(images)
        self.preparation = Preparation(resolution, channels)
        self.order = _Order(share, [self.samples], (), seed=seed, name=name)

    def batches(self, start: int) -> Generator[RawBatch, None, None]:
        indices, again = tee(self.order.batches(start))
        parts = (index.numpy() for index in again)
        with closing(decode_ahead(self.images, parts, self.preparation)) as decoded:
            for images, index in zip(decoded, indices, strict=False):
                yield RawBatch(images, self.labels[index], index)

    def key(self, index: int) -> str:
        return self.images.ids[index]


def load_resident(pools: Sequence[ShardPool]) -> tuple[Tensor, Tensor, list[str]]:
    """Decode whole pools: uint8 (N, C, H, W), dense labels int64 (N,), keys.

    Raises:
        UserError: a damaged sample.
    """
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
