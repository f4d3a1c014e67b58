"""Shard after shard: an iterable dataset that reads whole tars, shuffles them and a window of samples, and can be resumed anywhere.

The order is a function of the seed, the epoch and the numbers of ranks and of loader processes. Every loader process of every rank has a
lane of its own; the lanes of an epoch are disjoint and together hold every sample once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch.distributed as dist
from torch.utils.data import IterableDataset, get_worker_info

from ppcore.errors import UserError
from pptrain.data import LaneOrder
from pptransfer.samples import Reader


class StreamedShards(IterableDataset[tuple[Any, ...]]):
    """The samples of a shard directory, one epoch an iteration.

    A loader's state is this dataset's: with torchdata's `StatefulDataLoader` by itself (:meth:`state_dict` is asked in each of its
    processes), with PyTorch's `DataLoader` by :meth:`state_after`.

    Attributes:
        classes: names of the dense labels, or of all source classes where targets are soft.
    """

    def __init__(self, reader: Reader, classes: list[str], *, seed: int, window: int) -> None:
        self._reader, self.classes = reader, classes
        self._seed, self._window = seed, window
        self._epoch, self._taken = 0, 0
        self._batches, self._batch_size = 0, 0

    def __len__(self) -> int:
        """Samples of an epoch on this rank, to within one for each loader process."""
        rank, ranks = _rank()
        return len(range(rank, self._reader.shards.samples, ranks))

    def set_epoch(self, epoch: int) -> None:
        """The order of epoch `epoch` is the next iteration's, from its start."""
        self.load_state_dict({"epoch": epoch})

    def state_dict(self) -> dict[str, int]:
        """Where this iterator is; in a loader's process, where that process is."""
        return {"epoch": self._epoch, "taken": self._taken}

    def state_after(self, batches: int, batch_size: int) -> dict[str, int]:
        """The state after so many batches of this epoch came out of a `DataLoader` with that batch size.

        A loader with several processes takes a batch from each in turn, so that its state follows from the number of batches. It has to
        be resumed with as many processes as it had.
        """
        return {"epoch": self._epoch, "batches": batches, "batch_size": batch_size}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from a state. Raises UserError for what is none."""
        known = {"epoch", "taken", "batches", "batch_size"}
        if set(state) - known or any(not isinstance(value, int) or value < 0 for value in state.values()):
            raise UserError(
                f"{dict(state)} is no state of a stream of shards; give what state_dict() returned"
            )
        self._epoch, self._taken = state.get("epoch", 0), state.get("taken", 0)
        self._batches, self._batch_size = state.get("batches", 0), state.get("batch_size", 0)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        info = get_worker_info()
        process, processes = (info.id, info.num_workers) if info else (0, 1)
        rank, ranks = _rank()
        own = rank * processes
        orders = [self._order(own + number, ranks * processes) for number in range(processes)]
        lane, skipped = process, self._taken
        if self._batches:
            lane, skipped = self._resumed(orders, process)
            self._batches = 0
        yield from self._emit(orders[lane], skipped)
        self._epoch, self._taken = self._epoch + 1, 0

    def _order(self, lane: int, lanes: int) -> LaneOrder:
        sizes = [shard.samples for shard in self._reader.shards.shards]
        return LaneOrder(sizes, self._seed, "stream", lane=lane, lanes=lanes, window=self._window)

    def _resumed(self, orders: list[LaneOrder], process: int) -> tuple[int, int]:
        """(lane, samples of it that are done) of a loader's process: the loader asks process 0 first, whatever it asked last."""
        size = self._batch_size
        of_lane = [-(-order.length(self._epoch) // size) for order in orders]
        turns = sorted((turn, lane) for lane, count in enumerate(of_lane) for turn in range(count))
        done = [lane for _, lane in turns[: self._batches]]
        left = list(
            dict.fromkeys(lane for _, lane in turns[self._batches :])
        )  # in the order of their next batch
        left += [lane for lane in range(len(orders)) if lane not in left]
        lane = left[process]
        return lane, min(done.count(lane) * size, orders[lane].length(self._epoch))

    def _emit(self, order: LaneOrder, skipped: int) -> Iterator[tuple[Any, ...]]:
        """The lane's samples after the first `skipped`; holds a window and a shard of encoded images."""
        plan = order.epoch(self._epoch)
        shards = self._reader.shards.shards
        held: dict[int, Any] = {}
        position = 0
        emitted = set(plan.order[:skipped].tolist())
        self._taken = skipped
        for place in plan.order[skipped:].tolist():
            while place not in held:
                number = int(plan.shard[position])
                stop = position
                while stop < len(plan.shard) and plan.shard[stop] == number:
                    stop += 1
                wanted = [p for p in range(position, stop) if p not in emitted]
                if wanted:
                    samples = list(self._reader.shards.read(shards[number]))
                    rows = self._reader.rows(shards[number])
                    for p in wanted:
                        row = int(plan.row[p])
                        held[p] = (samples[row], shards[number], None if rows is None else rows[row])
                position = stop
            self._taken += 1
            yield self._reader.read(*held.pop(place))


def _rank() -> tuple[int, int]:
    """(rank, ranks) of this process among those that train together."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1
