"""Shard directories as datasets of PyTorch: by position, or streamed tar by tar and resumable at any sample."""

from __future__ import annotations

import operator
from typing import Any, Literal, SupportsIndex, overload

import torch
from torch.utils.data import Dataset

from ppcore.classifiers import load_classifier
from ppcore.classifiers import soft_labels as _soften
from ppcore.errors import UserError, require_positive
from ppcore.shards import ShardSet
from pptrain.evaluation import predict_logits
from pptransfer.reader import Reader, Transform, Weight, confidence
from pptransfer.streamed import StreamedShards

_BATCH = 64
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
    chosen = confidence if weight == "confidence" else weight
    if isinstance(chosen, str):
        raise UserError(f"unknown weight {chosen!r}; give 'confidence' or a function of a sample's row")
    reader = Reader(shards, as_soft, transform, chosen)
    return StreamedShards(reader, seed=seed, window=window) if stream else MappedShards(reader)


class MappedShards(Dataset[tuple[Any, ...]]):
    """The samples of a shard directory by position, each read alone: for samplers, and for local or fast file systems.

    Attributes:
        classes: names of the dense labels, or of all source classes if targets are soft.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader, self.classes = reader, reader.classes

    def __len__(self) -> int:
        return self._reader.shards.samples

    def __getitem__(self, position: SupportsIndex) -> tuple[Any, ...]:
        """(image, target) or (image, target, weight); a negative position counts from the end.

        Raises:
            IndexError: there is no such sample.
            UserError: the sample is damaged.
        """
        shards, place = self._reader.shards, operator.index(position)
        place += shards.samples if place < 0 else 0
        if not 0 <= place < shards.samples:
            raise IndexError(f"sample {position} of {shards.samples}")
        return self._reader.decode(shards.fetch(place), shards.locate(place)[0], place)


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
