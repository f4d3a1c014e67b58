"""Shard directories streamed tar by tar: shuffled, divided over processes, resumable at any sample."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import IterableDataset, get_worker_info

from ppcore.errors import UserError
from ppcore.shards import RawSample
from pptrain.data import LaneOrder, read_epoch
from pptransfer.reader import Reader


class _State(NamedTuple):
    """Where an iteration begins: after `taken` samples of a process's lane, or after `batches` batches of all lanes of a rank."""

    epoch: int = 0
    taken: int = 0
    batches: int = 0
    batch_size: int = 0

    def public(self) -> dict[str, int]:
        """The fields that are needed to resume."""
        unused = {"taken"} if self.batch_size else {"batches", "batch_size"}
        return {name: value for name, value in self._asdict().items() if name not in unused}


# A cell of a stream's shared memory: an iteration, the number of a loader process, how many iterations had begun.
_CELLS, _PROCESS_BITS, _COUNT_BITS = 1024, 10, 20


class StreamedShards(IterableDataset[tuple[Any, ...]]):
    """The samples of a shard directory, in whole tars. Each iteration reads the next epoch, also after one that was broken off.

    The order is a function of the seed, the epoch, and the numbers of ranks and loader processes. Every loader process of every
    rank reads its own lane. The lanes of an epoch are disjoint and hold every sample once. Samples that the ranks cannot share
    equally, fewer than there are ranks, are left out, other ones in every epoch. So all ranks have equally many batches.

    To resume, save this dataset's state. torchdata's `StatefulDataLoader` does so by itself with :meth:`state_dict`; with PyTorch's
    `DataLoader` use :meth:`state_after`.

    Attributes:
        classes: names of the dense labels, or of all source classes if targets are soft.
    """

    def __init__(self, reader: Reader, *, seed: int, window: int) -> None:
        self._reader, self.classes = reader, reader.classes
        self._seed, self._window = seed, window
        self._ranks = (0, 1)
        self._iterations = 0  # that this process began
        self._owner = 0
        self._loaded: _State | None = None  # by torchdata's loader, in a loader process
        self._restart(_State())

    def __len__(self) -> int:
        """Samples of an epoch on this rank."""
        return self._reader.shards.samples // self._place()[1]

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration begin at the start of epoch `epoch`."""
        self.load_state_dict({"epoch": epoch})

    def state_dict(self) -> dict[str, int]:
        """The epoch and the number of samples that this iterator yielded; in a loader process, that process's own.

        Raises:
            UserError: loader processes have read the stream since the last load, so this process does not know the position.
        """
        if get_worker_info() is None and self._begun() > self._own:
            raise UserError(
                "only the loader processes know the position of this stream; use state_after() with the number of batches"
            )
        return self._progress.public()

    def state_after(self, batches: int, batch_size: int) -> dict[str, int]:
        """The state after a `DataLoader` of that batch size yielded so many batches of this epoch.

        A loader takes one batch from each of its processes in turn, so the state follows from the number of batches. Resume with the
        same numbers of ranks and processes.

        Args:
            batches: counted from the start of the epoch, also if the iteration was resumed within it.
        """
        epoch = self._start.epoch + max(self._begun() - 1, 0)
        return _State(epoch, batches=batches, batch_size=batch_size).public()

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Let the next iteration resume from a state. Raises UserError if `state` is not a state."""
        known = set(state) <= set(_State._fields)
        known &= all(isinstance(value, int) and value >= 0 for value in state.values())
        if not known or (state.get("batches") and not state.get("batch_size")):
            raise UserError(
                f"{dict(state)} is no state of a stream of shards; give what state_dict() returned"
            )
        if get_worker_info() is None:
            self._restart(_State(**state))
        else:  # torchdata's loader gives each of its processes its own state
            self._progress = self._loaded = _State(**state)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        self._iterations += 1
        # A loader process begins at once, because torchdata's loader may load a state and never ask this iterator for a sample.
        return self._samples(self._begin() if get_worker_info() else None)

    def _samples(self, state: _State | None) -> Iterator[tuple[Any, ...]]:
        state = state or self._begin()
        info, (rank, ranks), shards = get_worker_info(), self._place(), self._reader.shards
        process, processes = (info.id, info.num_workers) if info else (0, 1)
        sizes = [shard.samples for shard in shards.shards]
        lanes = [
            LaneOrder(
                sizes,
                self._seed,
                "stream",
                lane=lane,
                lanes=ranks * processes,
                window=self._window,
                ranks=ranks,
            )
            for lane in range(rank * processes, (rank + 1) * processes)
        ]
        lane, taken = _next_lane(lanes, state, process) if state.batches else (process, state.taken)
        for sample, shard, position in read_epoch(lanes[lane], state.epoch, taken, self._load):
            taken += 1
            self._progress = _State(state.epoch, taken)
            yield self._reader.decode(sample, shards.shards[shard], position)
        # torchdata's loader resumes finished loader processes too, which must then yield nothing.
        self._progress = _State(state.epoch, taken) if info else _State(state.epoch + 1)

    def _load(self, number: int) -> list[RawSample]:
        return list(self._reader.shards.read(self._reader.shards.shards[number]))

    # A DataLoader copies the dataset into its processes and tells neither them nor this object when an iteration begins. They agree
    # on its epoch in memory that they share: the state to start from, and a cell for each process (see _begin).

    @property
    def _start(self) -> _State:
        """The state that was set or loaded last."""
        return _State(*self._memory[:4].tolist())

    def _restart(self, state: _State) -> None:
        """Let the next iteration begin from `state`."""
        if self._owner != os.getpid():
            self._owner = os.getpid()
            self._memory = torch.zeros(4 + _CELLS, dtype=torch.int64).share_memory_()
        self._memory.zero_()
        self._memory[:4] = torch.tensor(state)
        self._progress, self._own = state, 0
        self._loaded = None

    def _begun(self) -> int:
        """How many iterations have begun since the start."""
        return int((self._memory[4:] % (1 << _COUNT_BITS)).max())

    def _begin(self) -> _State:
        """The state to begin an iteration from, the same in all loader processes of the iteration.

        The first process that begins takes the next number and writes it into its cell, where the others find it. Each process writes
        its cell in one piece and no other cell, so no lock is needed.

        Raises:
            UserError: this is a loader process, and the stream was opened in another process than the loader.
        """
        info, parent = get_worker_info(), multiprocessing.parent_process()
        if info is None and self._owner != os.getpid():
            self._restart(self._start)
        if self._owner not in (os.getpid(), parent and parent.pid):
            raise UserError(
                "this stream was opened in another process; call set_epoch() in the process of the DataLoader before its first epoch"
            )
        process, seed = (info.id, info.seed - info.id) if info else (0, 0)
        iteration = hash((seed, self._iterations)) % (1 << (63 - _PROCESS_BITS - _COUNT_BITS))
        memory = self._memory.numpy()[4:]
        cells = memory[memory > 0]
        counts, key = cells % (1 << _COUNT_BITS), cells >> _COUNT_BITS
        same = key >> _PROCESS_BITS == iteration
        # An earlier iteration has the same key if the program sets the same random seed again.
        earlier = counts[key == (iteration << _PROCESS_BITS | process)]
        joined = np.setdiff1d(counts[same], earlier)
        start, state = self._start, self._loaded
        if state is not None:
            self._own = max(state.epoch - start.epoch, 0) + 1
        else:
            self._own = int(joined.max() if len(joined) else counts.max(initial=0) + 1)
            state = start if self._own == 1 else _State(start.epoch + self._own - 1)
        memory[os.getpid() % _CELLS] = (iteration << _PROCESS_BITS | process) << _COUNT_BITS | self._own
        self._loaded = None
        return state

    def _place(self) -> tuple[int, int]:
        """(rank, ranks) of the process that has the loader."""
        place = _rank()
        return place if place[1] > 1 else self._ranks

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_ranks": self._place()}  # a spawned loader process has no process group

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if not self._memory.is_shared():  # a copy in its own right
            self._owner, start = 0, self._start
            self._restart(start)


def _next_lane(lanes: list[LaneOrder], state: _State, process: int) -> tuple[int, int]:
    """(lane, samples of it that were yielded before) of a loader process that resumes after some batches of its rank.

    A resumed loader asks process 0 first, whichever process is next in turn, so process 0 takes the lane that is next.
    """
    lengths = [lane.length(state.epoch) for lane in lanes]
    counts = [-(-length // state.batch_size) for length in lengths]
    turns = sorted((turn, lane) for lane, count in enumerate(counts) for turn in range(count))
    done = [lane for _, lane in turns[: state.batches]]
    # The lanes in the order of their next batch, then those that are finished.
    order = dict.fromkeys([lane for _, lane in turns[state.batches :]] + list(range(len(lanes))))
    lane = list(order)[process]
    return lane, min(done.count(lane) * state.batch_size, lengths[lane])


def _rank() -> tuple[int, int]:
    """(rank, ranks) of this process among the processes that train together."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1
