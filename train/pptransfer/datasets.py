"""Shard directories as datasets of PyTorch: by position, or streamed tar by tar and resumable at any sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from ppcore.classifiers import load_classifier
from ppcore.classifiers import soft_labels as _soften
from ppcore.errors import UserError, require_positive
from ppcore.shards import RawSample, ShardRef, ShardSet, meta_path
from ppcore.storage import read_table
from pptrain.data import LaneOrder, decode_into, read_epoch
from pptrain.evaluation import predict_logits

_BATCH = 64
Transform = Callable[[Image.Image], Any]
Weight = Callable[[Mapping[str, Any]], float]
"""A row of a shard's parquet table (`class`, `entropy`, `confidence`, ...) -> the sample's weight."""
Weights = Weight | Literal["confidence"] | None


@overload
def open_shards(
    directory: str,
    *,
    stream: Literal[False] = False,
    soft: bool | None = None,
    weight: Weights = None,
    transform: Transform | None = None,
) -> MappedShards: ...


@overload
def open_shards(
    directory: str,
    *,
    stream: Literal[True],
    soft: bool | None = None,
    weight: Weights = None,
    transform: Transform | None = None,
    seed: int = 0,
    window: int = 4096,
) -> StreamedShards: ...


def open_shards(
    directory: str,
    *,
    stream: bool = False,
    soft: bool | None = None,
    weight: Weights = None,
    transform: Transform | None = None,
    seed: int = 0,
    window: int = 4096,
) -> MappedShards | StreamedShards:
    """Open a finished shard directory of `ppgen`, local or in an object store, as a dataset.

    Args:
        directory: path or URL.
        stream: an iterable dataset that reads whole tars in shuffled order; otherwise a map-style one that reads single samples.
        soft: targets are soft labels, float32 (K,) over the source's K classes; otherwise dense labels (positions among the classes
            that occur). The default is soft labels for pseudo samples, which have no dense ones, and dense labels for synth samples.
        weight: also return a weight for each sample: `confidence`, or a function of the sample's row.
        transform: takes a Pillow image; without a transform images are uint8 (C, H, W).
        seed: seed of a stream's order.
        window: places that a sample of a stream can move ahead, and the most samples that are held beyond two shards.

    Raises:
        UserError: the directory is no shard directory, unfinished or damaged, or dense labels are asked of pseudo samples.
    """
    shards = ShardSet.open(directory)
    as_soft = shards.kind == "pseudo" if soft is None else soft
    if not as_soft and shards.kind == "pseudo":
        raise UserError(
            f"{directory} holds pseudo samples, which have soft labels only; leave soft=False out"
        )
    chosen = _confidence if weight == "confidence" else weight
    if isinstance(chosen, str):
        raise UserError(f"unknown weight {chosen!r}; give 'confidence' or a function of a sample's row")
    reader = _Reader(shards, as_soft, transform, chosen)
    return StreamedShards(reader, seed=seed, window=window) if stream else MappedShards(reader)


class MappedShards(Dataset[tuple[Any, ...]]):
    """The samples of a shard directory by position, each read alone: for samplers, and for local or fast file systems.

    Attributes:
        classes: names of the dense labels, or of all source classes if targets are soft.
    """

    def __init__(self, reader: _Reader) -> None:
        self._reader, self.classes = reader, reader.classes
        self._ends = np.cumsum([shard.samples for shard in reader.shards.shards])
        self._weights: dict[int, Sequence[float | None]] = {}  # by number of the shard

    def __len__(self) -> int:
        return self._reader.shards.samples

    def __getitem__(self, position: int) -> tuple[Any, ...]:
        """(image, target) or (image, target, weight). Raises IndexError, and UserError for a damaged sample."""
        place = position + len(self) if position < 0 else position
        if not 0 <= place < len(self):
            raise IndexError(f"sample {position} of {len(self)}")
        number = int(np.searchsorted(self._ends, place, side="right"))
        shard = self._reader.shards.shards[number]
        if number not in self._weights:
            self._weights[number] = self._reader.weights(shard)
        weight = self._weights[number][place - int(self._ends[number])]
        return self._reader.decode(self._reader.shards.fetch(place), shard, weight)


class StreamedShards(IterableDataset[tuple[Any, ...]]):
    """The samples of a shard directory, one epoch an iteration, in whole tars.

    The order is a function of the seed, the epoch, and the numbers of ranks and loader processes. Every loader process of every
    rank reads its own lane. The lanes of an epoch are disjoint and hold every sample once.

    To resume, save this dataset's state. torchdata's `StatefulDataLoader` does so by itself with :meth:`state_dict`; with PyTorch's
    `DataLoader` use :meth:`state_after`.

    Attributes:
        classes: names of the dense labels, or of all source classes if targets are soft.
    """

    def __init__(self, reader: _Reader, *, seed: int, window: int) -> None:
        self._reader, self.classes = reader, reader.classes
        self._seed, self._window = seed, window
        self._epoch, self._taken = 0, 0
        self._batches, self._batch_size = 0, 0

    def __len__(self) -> int:
        """Samples of an epoch on this rank, up to one sample more or less for each loader process."""
        rank, ranks = _rank()
        return len(range(rank, self._reader.shards.samples, ranks))

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration begin at the start of epoch `epoch`."""
        self.load_state_dict({"epoch": epoch})

    def state_dict(self) -> dict[str, int]:
        """The epoch and the number of samples that this iterator yielded; in a loader process, that process's own."""
        return {"epoch": self._epoch, "taken": self._taken}

    def state_after(self, batches: int, batch_size: int) -> dict[str, int]:
        """The state after a `DataLoader` of that batch size yielded so many batches of this epoch.

        A loader takes one batch from each of its processes in turn, so the state follows from the number of batches. Resume with the
        same number of processes.
        """
        return {"epoch": self._epoch, "batches": batches, "batch_size": batch_size}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Let the next iteration resume from a state. Raises UserError if `state` is not a state."""
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
        sizes = [shard.samples for shard in self._reader.shards.shards]
        lanes = [
            LaneOrder(sizes, self._seed, "stream", lane=lane, lanes=ranks * processes, window=self._window)
            for lane in range(rank * processes, (rank + 1) * processes)
        ]
        lane, skipped = self._resumed(lanes, process) if self._batches else (process, self._taken)
        self._batches, self._taken = 0, skipped
        shards = self._reader.shards.shards
        for (sample, weight), shard, _ in read_epoch(lanes[lane], self._epoch, skipped, self._load):
            self._taken += 1
            yield self._reader.decode(sample, shards[shard], weight)
        self._epoch, self._taken = self._epoch + 1, 0

    def _load(self, number: int) -> list[tuple[RawSample, float | None]]:
        shard = self._reader.shards.shards[number]
        return list(zip(self._reader.shards.read(shard), self._reader.weights(shard), strict=True))

    def _resumed(self, lanes: list[LaneOrder], process: int) -> tuple[int, int]:
        """(lane, samples of it that were yielded before) of a loader process after `_batches` batches of this rank.

        A resumed loader asks process 0 first, whichever process is next in turn, so process 0 takes the lane that is next.
        """
        size = self._batch_size
        counts = [-(-lane.length(self._epoch) // size) for lane in lanes]
        turns = sorted((turn, lane) for lane, count in enumerate(counts) for turn in range(count))
        done = [lane for _, lane in turns[: self._batches]]
        # The lanes in the order of their next batch, then those that are finished.
        order = dict.fromkeys([lane for _, lane in turns[self._batches :]] + list(range(len(lanes))))
        lane = list(order)[process]
        return lane, min(done.count(lane) * size, lanes[lane].length(self._epoch))


def shard_urls(directory: str) -> list[str]:
    """The tars of a finished shard directory, as WebDataset, timm (`wds/...`) and Hugging Face `datasets` take them.

    Raises:
        UserError: no shard directory, unfinished or damaged.
    """
    return ShardSet.open(directory).urls


def timm_split(directory: str) -> str:
    """The tars and the number of samples, as timm takes them for the split of a dataset `wds/NAME` with the directory as root.

    Raises:
        UserError: no shard directory, unfinished or damaged.
    """
    shards = ShardSet.open(directory)
    first, last = (shards.shards[place].path for place in (0, -1))
    folder, _, name = first.rpartition("/")
    start, stop = name.removesuffix(".tar"), last.rpartition("/")[2].removesuffix(".tar")
    return f"{folder}/{{{start}..{stop}}}.tar|{shards.samples}"


@dataclass(frozen=True)
class _Reader:
    """Makes (image, target) or (image, target, weight) of stored samples; can be pickled if `transform` and `weight` can."""

    shards: ShardSet
    soft: bool
    transform: Transform | None
    weight: Weight | None

    @property
    def classes(self) -> list[str]:
        names = self.shards.class_names
        return names if self.soft else [names[c] for c in self.shards.classes]

    def decode(self, sample: RawSample, shard: ShardRef, weight: float | None) -> tuple[Any, ...]:
        """(image, target) or (image, target, weight). Raises UserError for a damaged sample."""
        where, side, channels = (
            self.shards.store.path(shard.path),
            self.shards.resolution,
            self.shards.channels,
        )
        pixels = np.empty((side, side, channels), dtype=np.uint8)
        decode_into(sample, pixels, where)
        image: Any = torch.from_numpy(pixels).permute(2, 0, 1)
        if self.transform is not None:
            image = self.transform(Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels))
        target = self._soft(sample, where) if self.soft else self._dense(sample, where)
        return (image, target) if weight is None else (image, target, weight)

    def weights(self, shard: ShardRef) -> Sequence[float | None]:
        """The weight of every sample of a shard, None without a weight. Raises UserError for a damaged table."""
        if self.weight is None:
            return [None] * shard.samples
        path = self.shards.store.path(meta_path(shard.index))
        try:
            rows = read_table(self.shards.store.read(meta_path(shard.index)), None).to_pylist()
        except (FileNotFoundError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}); run ppgen verify on the directory") from error
        if len(rows) != shard.samples:
            raise UserError(
                f"{path} has {len(rows)} rows for {shard.samples} samples; run ppgen verify on the directory"
            )
        return [float(self.weight(row)) for row in rows]

    def _dense(self, sample: RawSample, where: str) -> int:
        if sample.label not in self.shards.classes:
            raise UserError(
                f"sample {sample.key} of {where} has class {sample.label}, which is not in its plan; run ppgen verify on the "
                f"directory"
            )
        return self.shards.classes.index(sample.label)

    def _soft(self, sample: RawSample, where: str) -> torch.Tensor:
        classes = self.shards.num_classes
        if sample.soft is not None and len(sample.soft) == classes:
            return torch.from_numpy(sample.soft)
        if sample.soft is None and sample.label is not None and sample.label < classes:
            return torch.nn.functional.one_hot(torch.tensor(sample.label), classes).float()
        raise UserError(
            f"sample {sample.key} of {where} has no soft label; run ppgen verify on the directory"
        )


def _confidence(row: Mapping[str, Any]) -> float:
    """The source classifier's probability of the sample's condition. Raises UserError if it was not stored."""
    if row["confidence"] is None:
        raise UserError(
            "the samples have no confidence; make the directory with ppgen synth --score, or give a function as weight"
        )
    return float(row["confidence"])


def _rank() -> tuple[int, int]:
    """(rank, ranks) of this process among the processes that train together."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def soft_labels(
    images: torch.Tensor,
    classifier: str = "letters",
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    device: str = "cpu",
) -> torch.Tensor:
    """The source classifier's probabilities C_s(x) of images (arXiv 2204.12833, section 3.3).

    Args:
        images: uint8 (N, C, H, W), of any size.
        classifier: a kit's name, a model directory, a torchvision name or `timm/NAME`.
        temperature: temperature of the softmax.
        top_k: keep the k largest probabilities, scaled to sum to 1.
        device: `cpu`, `cuda` or `cuda:N`.

    Returns:
        float32 (N, K), on the CPU.

    Raises:
        UserError: the classifier cannot be loaded, or an argument has a wrong type or value.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise UserError(
            f"images are {str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}; give uint8 (N, C, H, W) with 1 or 3 channels"
        )
    require_positive("temperature", temperature)
    if top_k is not None:
        require_positive("top_k", top_k)
    logits = torch.cat(list(predict_logits(load_classifier(classifier).to(device), images.split(_BATCH))))
    return _soften(logits, temperature, top_k).float()
