"""Shards -> uint8 batches: raw bytes shuffled, every image decoded once, one contiguous tensor a step across the process boundary."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ppcore.errors import UserError
from ppcore.shards import RawSample
from pptrain.data.decoding import decode_into
from pptrain.data.feed import BatchShare, RawBatch
from pptrain.data.order import LaneOrder, Mixture
from pptrain.data.shard_pool import ShardPool

_PREFETCH = 4  # batches a worker prepares ahead


class _PoolReader:
    """Samples of one lane of a pool in emission order, holding at most a window and two shards of encoded images."""

    def __init__(self, pool: ShardPool, order: LaneOrder, start: int) -> None:
        self.pool, self.order = pool, order
        epoch, skip = order.locate(start)
        self._emission = self._emit(epoch, skip)
        self._runs = self._reading_runs(epoch, skip)
        self._held: dict[tuple[int, int], tuple[RawSample, int]] = {}
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._ahead: Future[dict[tuple[int, int], tuple[RawSample, int]]] = self._fetch()

    def take(self) -> tuple[RawSample, int, int]:
        """(sample, shard, position in the pool)."""
        place, index = next(self._emission)
        while place not in self._held:
            self._held.update(self._ahead.result())
            self._ahead = self._fetch()
        sample, shard = self._held.pop(place)
        return sample, shard, index

    def _fetch(self) -> Future[dict[tuple[int, int], tuple[RawSample, int]]]:
        return self._thread.submit(lambda: self._load(*next(self._runs)))

    def _load(
        self, epoch: int, shard: int, places: np.ndarray, rows: np.ndarray
    ) -> dict[tuple[int, int], tuple[RawSample, int]]:
        samples = self.pool.read(shard)
        return {(epoch, int(p)): (samples[r], shard) for p, r in zip(places, rows, strict=True)}

    def _emit(self, epoch: int, skip: int) -> Iterator[tuple[tuple[int, int], int]]:
        while True:
            plan = self.order.epoch(epoch)
            for place in plan.order[skip:].tolist():
                yield (epoch, place), int(plan.index[place])
            epoch, skip = epoch + 1, 0

    def _reading_runs(self, epoch: int, skip: int) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
        """(epoch, shard, places in reading order, rows in the shard) of every stretch of one shard, samples already emitted before
        a resume left out."""
        while True:
            plan = self.order.epoch(epoch)
            wanted = np.ones(len(plan.order), dtype=bool)
            wanted[plan.order[:skip]] = False
            cuts = np.flatnonzero(np.diff(plan.shard)) + 1
            for places in np.split(np.arange(len(plan.shard)), cuts):
                left = places[wanted[places]]
                if len(left):
                    yield epoch, int(plan.shard[left[0]]), left, plan.row[left]
            epoch, skip = epoch + 1, 0


class _Lane:
    """One lane of a weighted mixture of pools."""

    def __init__(self, feed: StreamFeed, lane: int, start: int) -> None:
        self.mixture = Mixture(feed.weights) if feed.weights else Mixture([1.0])
        self.count = start
        drawn = self.mixture.drawn(start)
        self.readers = [
            _PoolReader(pool, feed.order(number, lane), int(drawn[number]))
            for number, pool in enumerate(feed.pools)
        ]

    def take(self, count: int) -> Iterator[tuple[int, RawSample, int, int]]:
        """`count` times (pool, sample, shard, position in the pool)."""
        for source in self.mixture.choose(self.count, count).tolist():
            yield source, *self.readers[source].take()
        self.count += count


class StreamFeed:
    """Shards too large for memory.

    Args:
        pools: one, or several mixed by `weights`.
        share: this process's part of every batch.
        workers: decoding processes.
        lanes: parts a group's stream is cut into, a multiple of `workers`; batch s of a group comes from its lane s % lanes.
        window: places a sample can move ahead.

    Raises:
        UserError: fewer shards than lanes in all.
    """

    def __init__(
        self,
        pools: Sequence[ShardPool],
        share: BatchShare,
        *,
        seed: int,
        name: str,
        weights: Sequence[float] = (),
        workers: int = 0,
        lanes: int = 0,
        window: int = 4096,
    ) -> None:
        self.pools, self.share, self.weights, self.workers = list(pools), share, list(weights), workers
        self.lanes, self.seed, self.name, self.window = lanes or max(workers, 1), seed, name, window
        self.samples = sum(pool.samples for pool in pools)
        self.bases = np.cumsum([0] + [pool.samples for pool in pools]).tolist()
        if workers and self.lanes % workers:
            raise UserError(
                f"data.lanes {self.lanes} is no multiple of data.workers {workers}; choose one that is"
            )
        for pool in pools:
            if len(pool.refs) < self.lanes * share.groups:
                raise UserError(
                    f"{pool.sets[0].store} has {len(pool.refs)} shards for {self.lanes} workers or lanes x {share.groups} "
                    f"ranks or groups; use at most {len(pool.refs)} in all, or write smaller shards (--samples-per-shard)"
                )

    def order(self, pool: int, lane: int) -> LaneOrder:
        """Order of one lane, 0 <= lane < lanes * groups, of one pool."""
        return LaneOrder(
            self.pools[pool].sizes,
            self.seed,
            f"{self.name}-{pool}",
            lane=lane,
            lanes=self.lanes * self.share.groups,
            window=self.window,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        first = self.pools[0]
        return first.channels, first.resolution, first.resolution

    def batches(self, start: int) -> Generator[RawBatch, None, None]:
        loader = DataLoader(
            _Decoder(self, start),
            batch_size=None,
            num_workers=self.workers,
            prefetch_factor=_PREFETCH if self.workers else None,
            pin_memory=torch.cuda.is_available() and self.workers > 0,
        )
        for images, labels, index in loader:
            yield RawBatch(images.permute(0, 3, 1, 2), labels, index)

    def key(self, index: int) -> str:
        pool = int(np.searchsorted(self.bases, index, side="right")) - 1
        return self.pools[pool].key(index - self.bases[pool])


class _Decoder(IterableDataset[tuple[Tensor, Tensor, Tensor]]):
    """What runs in a decoding process: whole batches, uint8 (B, H, W, C) as the decoder writes them."""

    def __init__(self, feed: StreamFeed, start: int) -> None:
        self.feed, self.start = feed, start

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        feed, info = self.feed, get_worker_info()
        number, workers = (info.id, info.num_workers) if info else (0, 1)
        lanes: dict[int, _Lane] = {}
        step = self.start + number  # the loader takes one batch of each worker in turn
        while True:
            yield self._batch(feed, lanes, step)
            step += workers

    def _batch(self, feed: StreamFeed, lanes: dict[int, _Lane], step: int) -> tuple[Tensor, Tensor, Tensor]:
        share, first = feed.share, feed.pools[0]
        size = share.local
        images = torch.empty(size, first.resolution, first.resolution, first.channels, dtype=torch.uint8)
        pixels, labels, index, row = images.numpy(), [0] * size, [0] * size, 0
        for group in share.local_groups:
            lane = group * feed.lanes + step % feed.lanes
            if lane not in lanes:
                lanes[lane] = _Lane(feed, lane, step // feed.lanes * share.group)
            for source, sample, shard, position in lanes[lane].take(share.group):
                pool = feed.pools[source]
                decode_into(sample, pixels[row], pool.where(shard))
                labels[row] = pool.label(sample, shard)
                index[row] = feed.bases[source] + position
                row += 1
        return images, torch.tensor(labels), torch.tensor(index)
