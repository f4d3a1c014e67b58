"""What the files of a shard directory hold: columns of its tables, and what readers look at in its documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pyarrow as pa
from pydantic import Field

from ppcore.images import MAX_SIDE

ROW_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("index", pa.int64(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("class", pa.int32()),  # source class of a one-hot condition, else null
        pa.field("soft_classes", pa.list_(pa.int32())),  # largest entries of the condition, descending
        pa.field("soft_probs", pa.list_(pa.float32())),
        pa.field("entropy", pa.float32(), nullable=False),  # of the whole condition, nats
        pa.field("norm", pa.float32(), nullable=False),  # Euclidean norm of the whole condition
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("attempt", pa.int16(), nullable=False),  # draws thrown away before this one (--drop-below)
        pa.field("target_id", pa.string()),  # pseudo samples: the conditioning target image
        pa.field("bytes", pa.int32(), nullable=False),  # encoded image
        pa.field("sha256", pa.string(), nullable=False),  # of the encoded image
        pa.field("offset", pa.int64(), nullable=False),  # of the encoded image inside the tar
        pa.field("confidence", pa.float32()),  # source classifier on the sample: probability of its condition
    ]
)
"""One row a sample, in `meta/NNNNNN.parquet` and `manifest.parquet`."""

CONDITION_SCHEMA = pa.schema(
    [
        pa.field("target_id", pa.string(), nullable=False),
        pa.field("soft", pa.list_(pa.float32()), nullable=False),
    ]
)
"""`conditions.parquet`: the source classifier's soft label (K probabilities) of every target image used."""

Count = Annotated[int, Field(ge=0)]
PathInside = Annotated[str, Field(pattern=r"^(\w[\w.-]*/)*\w[\w.-]*$")]
"""A path that stays below the directory: relative, no `..`, no URL."""


@dataclass(frozen=True)
class ShardRef:
    """An entry of index.json: a committed shard, its number, its path below the directory, its samples and bytes."""

    index: Count
    path: Annotated[PathInside, Field(alias="url")]
    samples: Annotated[int, Field(alias="nsamples", ge=0, le=10**9)]
    bytes: Annotated[int, Field(alias="filesize", ge=0)]
    sha256: str


@dataclass(frozen=True)
class Page:
    """A further file of the index: its path, and how many shards it lists."""

    path: Annotated[PathInside, Field(alias="url")]
    shards: Annotated[int, Field(alias="nshards", ge=1, le=10**6)]


@dataclass(frozen=True)
class Index:
    """What is read of index.json, and of each of its pages: shards, or the pages that list them."""

    shardlist: tuple[ShardRef, ...] = ()
    pages: Annotated[tuple[Page, ...], Field(max_length=1000)] = ()


@dataclass(frozen=True)
class SourceHeader:
    """What is read of the plan's source."""

    class_names: tuple[str, ...]


@dataclass(frozen=True)
class PlanHeader:
    """What readers look at in plan.json; the whole of it is `ppgen.plan.Plan`."""

    source: SourceHeader
    classes: tuple[Count, ...]
    resolution: Annotated[int, Field(ge=1, le=MAX_SIDE)]
    channels: Annotated[int, Field(ge=1, le=3)]
    fingerprint: str
