"""`open_shards`: a shard directory as a dataset of PyTorch."""

from __future__ import annotations

from typing import Literal, overload

from ppcore.errors import UserError
from ppcore.shards import ShardSet
from pptransfer.mapped import MappedShards
from pptransfer.samples import Reader, Transform, Weight, by_confidence
from pptransfer.streamed import StreamedShards

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
    """A finished shard directory of `ppgen`, local or in an object store, as a dataset.

    Args:
        directory: path or URL.
        stream: an iterable dataset that reads whole tars in shuffled order; otherwise a map-style one that reads single samples.
        soft: targets are soft labels, float32 (K,) over the source's K classes; otherwise dense labels (positions among the classes
            that occur). None is soft for pseudo samples, which have no other, and dense for synth ones.
        weight: also return a weight for each sample: `confidence`, or a function of the sample's row.
        transform: takes a Pillow image; without one images are uint8 (C, H, W).
        seed: of a stream's order.
        window: places a sample of a stream can move ahead, and the most samples it holds beyond a shard.

    Raises:
        UserError: no shard directory, unfinished or damaged; or dense labels asked of pseudo samples.
    """
    shards = ShardSet.open(directory)
    as_soft = shards.kind == "pseudo" if soft is None else soft
    if not as_soft and shards.kind == "pseudo":
        raise UserError(
            f"{directory} holds pseudo samples, which have soft labels only; leave soft=False out"
        )
    chosen = by_confidence if weight == "confidence" else weight
    if isinstance(chosen, str):
        raise UserError(f"unknown weight {chosen!r}; give 'confidence' or a function of a sample's row")
    reader = Reader(shards, as_soft, transform, chosen)
    names = shards.class_names if as_soft else [shards.class_names[c] for c in shards.classes]
    return StreamedShards(reader, names, seed=seed, window=window) if stream else MappedShards(reader, names)
