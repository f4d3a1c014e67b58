"""Names, paths and version of a shard directory, the columns of its tables, and what readers look at in its JSON files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pyarrow as pa
from pydantic import Field

from ppcore import SHARD_FORMAT
from ppcore.images import MAX_SIDE
from ppcore.storage import MAX_OBJECT_BYTES

FORMAT = "pptransfer-shards"
VERSION = SHARD_FORMAT
PLAN, INDEX, MANIFEST, CARD, REPORT, CONDITIONS = (
    "plan.json",
    "index.json",
    "manifest.parquet",
    "README.md",
    "report.html",
    "conditions.parquet",
)
SHARDS, META, COMMITS, PAGES = "shards", "meta", "commits", "index"
PAGE_SHARDS = 50_000  # most entries of index.json, and of each page of it: about 10 MB
LOGS = "logs"  # not part of the data; differs between runs
KINDS = ("synth", "pseudo")


def sample_key(index: int) -> str:
    """Key of a sample: its global index with leading zeros."""
    return f"{index:09d}"


def shard_name(shard: int) -> str:
    return f"{shard:06d}"


def tar_path(shard: int) -> str:
    return f"{SHARDS}/{shard_name(shard)}.tar"


def meta_path(shard: int) -> str:
    return f"{META}/{shard_name(shard)}.parquet"


def commit_path(shard: int) -> str:
    return f"{COMMITS}/{shard_name(shard)}.json"


def default_directory(kind: str, source: str, target: str | None = None) -> str:
    """The default directory of ppgen and pptrain: `runs/synth-SOURCE` or `runs/pseudo-SOURCE-TARGET`."""
    return f"runs/{'-'.join(part for part in (kind, source, target) if part)}"


def most_bytes(samples: int, resolution: int, channels: int, num_classes: int) -> int:
    """An upper bound in bytes for a tar of `samples` samples: an encoded image has at most twice the bytes of its pixels."""
    each = 2 * channels * resolution**2 + 4 * num_classes + (16 << 10)
    return min(samples * each + (1 << 20), MAX_OBJECT_BYTES)


def index_page(page: int) -> str:
    return f"{PAGES}/{shard_name(page)}.json"


def index_pages(shards: int) -> list[tuple[str, range]]:
    """The pages of a long index and the shards that each page lists; empty if index.json lists all shards itself."""
    if shards <= PAGE_SHARDS:
        return []
    firsts = range(0, shards, PAGE_SHARDS)
    return [(index_page(i), range(n, min(n + PAGE_SHARDS, shards))) for i, n in enumerate(firsts)]


def planned_files(shards: int) -> dict[str, set[str]]:
    """Folder -> names of its files, for a directory of `shards` shards."""
    paths = {SHARDS: tar_path, META: meta_path, COMMITS: commit_path}
    planned = {folder: {path(n).rsplit("/", 1)[-1] for n in range(shards)} for folder, path in paths.items()}
    return {**planned, PAGES: {name.rsplit("/", 1)[-1] for name, _ in index_pages(shards)}}


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
        pa.field("attempt", pa.int16(), nullable=False),  # bad draws (NaN, infinity) before this one
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
"""`conditions.parquet`: the source classifier's soft label (K probabilities) of every target image that is used."""

Count = Annotated[int, Field(ge=0)]
PathInside = Annotated[str, Field(pattern=r"^(\w[\w.-]*/)*\w[\w.-]*$")]
"""A path inside the directory: relative, without `..`, not a URL."""


@dataclass(frozen=True)
class ShardRef:
    """An entry of index.json: a committed shard with its number, path, number of samples and bytes."""

    index: Count
    path: Annotated[PathInside, Field(alias="url")]
    samples: Annotated[int, Field(alias="nsamples", ge=0, le=10**9)]
    bytes: Annotated[int, Field(alias="filesize", ge=0)]
    sha256: str


@dataclass(frozen=True)
class Page:
    """A page of a long index: its path and the number of shards that it lists."""

    path: Annotated[PathInside, Field(alias="url")]
    shards: Annotated[int, Field(alias="nshards", ge=1, le=10**6)]


@dataclass(frozen=True)
class Index:
    """The fields of index.json and of its pages that are read: shards, or pages that list shards."""

    shardlist: tuple[ShardRef, ...] = ()
    pages: Annotated[tuple[Page, ...], Field(max_length=1000)] = ()


@dataclass(frozen=True)
class SourceHeader:
    """The fields of the plan's source that readers use."""

    class_names: tuple[str, ...]


@dataclass(frozen=True)
class PlanHeader:
    """The fields of plan.json that readers use; `ppgen.plan.Plan` has all of them."""

    source: SourceHeader
    classes: tuple[Count, ...]
    resolution: Annotated[int, Field(ge=1, le=MAX_SIDE)]
    channels: Annotated[int, Field(ge=1, le=3)]
    fingerprint: str
