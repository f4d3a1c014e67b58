"""Shards too large for memory -> uint8 batches: encoded images are shuffled, then each is decoded once, in a worker process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ppcore.errors import UserError
from ppcore.shards import RawSample
from pptrain.data.feed import BatchShare, RawBatch
from pptrain.data.order import LaneOrder, Mixture
from pptrain.data.shard_pool import ShardPool
from pptrain.data.transforms import decode_into

_PREFETCH = 4  # batches a worker prepares ahead

Sample = TypeVar("Sample")


def read_epoch(
    order: LaneOrder, epoch: int, skip: int, load: Callable[[int], Sequence[Sample]]
) -> Iterator[tuple[Sample, int, int]]:
    """(sample, shard, position in the set) of one epoch of a lane, in the order of emission.

    At most a window and two shards of samples are held. A thread reads the next shard ahead.

    Args:
        skip: samples at the start of the epoch that were emitted before a resume; shards of which no others are left are not read.
        load: reads all samples of a shard.
    """
    plan = order.epoch(epoch)
    wanted = np.ones(len(plan.order), dtype=bool)
    wanted[plan.order[:skip]] = False
    cuts = np.flatnonzero(np.diff(plan.shard)) + 1
    runs = [places[wanted[places]] for places in np.split(np.arange(len(plan.shard)), cuts)]
    shards = iter([run.tolist() for run in runs if len(run)])
    held: dict[int, Sample] = {}
    with ThreadPoolExecutor(max_workers=1) as thread:

        def read_next() -> dict[int, Sample]:
            places: list[int] = next(shards, [])
            if not places:
                return {}
            samples = load(int(plan.shard[places[0]]))
            return {place: samples[plan.row[place]] for place in places}

        ahead = thread.submit(read_next)
        for place in plan.order[skip:].tolist():
            while place not in held:
                held |= ahead.result()
                ahead = thread.submit(read_next)
            yield held.pop(place), int(plan.shard[place]), int(plan.index[place])


class _Lane:
    """One lane of a weighted mixture of pools, from its sample number `start` on."""

    def __init__(self, feed: StreamFeed, lane: int, start: int) -> None:
        self.mixture, self.count = Mixture(feed.weights or [1.0]), start
        drawn = self.mixture.drawn(start)
        self.readers = [
            self._samples(pool, feed.order(number, lane), int(drawn[number]))
            for number, pool in enumerate(feed.pools)
        ]

    def take(self, count: int) -> Iterator[tuple[int, RawSample, int, int]]:
        """`count` times (pool, sample, shard, position in the pool)."""
        for source in self.mixture.choose(self.count, count).tolist():
            yield source, *next(self.readers[source])
        self.count += count

    @staticmethod
    def _samples(pool: ShardPool, order: LaneOrder, start: int) -> Iterator[tuple[RawSample, int, int]]:
        epoch, skip = order.locate(start)
        while True:
            yield from read_epoch(order, epoch, skip, pool.read)
            epoch, skip = epoch + 1, 0


class StreamFeed:
    """Batches of shards that are too large for memory.

    Args:
        pools: one, or several mixed by `weights`.
        share: this process's part of every batch.
        workers: decoding processes; 0 decodes in this process.
        lanes: parts that the stream of a group is cut into, a multiple of `workers`. Batch s of a group comes from its lane
            s % lanes, so the order of samples depends on the number of lanes and not on the number of workers. 0 is one lane for
            each worker.
        window: places that a sample can move ahead.

    Raises:
        UserError: there are fewer shards than lanes.
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
                f"data.lanes {self.lanes} is not a multiple of data.workers {workers}; make it a multiple"
            )
        for pool in pools:
            if len(pool.refs) < self.lanes * share.groups:
                raise UserError(
                    f"{pool.sets[0].store} has {len(pool.refs)} shards for {self.lanes} workers or lanes x {share.groups} "
                    f"ranks or groups; use at most {len(pool.refs)} in all, or write smaller shards (--samples-per-shard)"
                )

    def order(self, pool: int, lane: int) -> LaneOrder:
        """Order of lane `lane`, 0 <= lane < lanes * groups, of pool number `pool`."""
        return LaneOrder(
            self.pools[pool].sizes,
            self.seed,
            f"{self.name}-{pool}",
            lane=lane,
            lanes=self.lanes * self.share.groups,
            window=self.window,
        )

    def batches(self, start: int) -> Generator[RawBatch, None, None]:
        loader = DataLoader(
            _Decoder(self, start),
            batch_size=None,
            num_workers=self.workers,
            prefetch_factor=_PREFETCH if self.workers else None,
            pin_memory=torch.cuda.is_available(),  # so that the copy to the GPU does not block this process
        )
        for images, labels, index in loader:
            yield RawBatch(images.permute(0, 3, 1, 2), labels, index)

    def key(self, index: int) -> str:
        pool = int(np.searchsorted(self.bases, index, side="right")) - 1
        return self.pools[pool].key(index - self.bases[pool])


class _Decoder(IterableDataset[tuple[Tensor, Tensor, Tensor]]):
    """Runs in a decoding process and makes whole batches, uint8 (B, H, W, C)."""

    def __init__(self, feed: StreamFeed, start: int) -> None:
        self.feed, self.start = feed, start

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        info = get_worker_info()
        number, workers = (info.id, info.num_workers) if info else (0, 1)
        lanes: dict[int, _Lane] = {}
        step = self.start + number  # the loader takes one batch from each worker in turn
        while True:
            yield self._batch(lanes, step)
            step += workers

    def _batch(self, lanes: dict[int, _Lane], step: int) -> tuple[Tensor, Tensor, Tensor]:
        feed, share, first = self.feed, self.feed.share, self.feed.pools[0]
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
