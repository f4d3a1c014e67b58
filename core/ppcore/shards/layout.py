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
VERSION = SHARD_FORMAT  # of new directories: what a plan says of how its source was loaded is part of its fingerprint
READABLE = (1, 2)
PLAN, INDEX, MANIFEST, CARD, REPORT, CONDITIONS = (
    "plan.json",
    "index.json",
    "manifest.parquet",
    "README.md",
    "report.html",
    "conditions.parquet",
)
SHARDS, META, COMMITS, PAGES = "shards", "meta", "commits", "index"
PAGE_SHARDS = 50_000  # entries that index.json holds by itself, and a page of it: some 10 MB
LOGS = "logs"  # of runs: no part of the data, differs from run to run
KINDS = ("synth", "pseudo")


def sample_key(index: int) -> str:
    """Key of a sample: its zero-padded global index."""
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
    """Where ppgen writes, and pptrain looks, when no directory is given: `runs/synth-SOURCE`, `runs/pseudo-SOURCE-TARGET`."""
    return f"runs/{'-'.join(part for part in (kind, source, target) if part)}"


def most_bytes(samples: int, resolution: int, channels: int, num_classes: int) -> int:
    """More than a tar of so many samples can have: an encoded image is never twice its pixels and a few headers."""
    each = 2 * channels * resolution**2 + 4 * num_classes + (16 << 10)
    return min(samples * each + (1 << 20), MAX_OBJECT_BYTES)


def index_page(page: int) -> str:
    return f"{PAGES}/{shard_name(page)}.json"


def index_pages(shards: int) -> list[tuple[str, range]]:
    """The pages that index.json names in the place of so many shards, and the shards that each lists; none where it lists all itself."""
    if shards <= PAGE_SHARDS:
        return []
    firsts = range(0, shards, PAGE_SHARDS)
    return [(index_page(i), range(n, min(n + PAGE_SHARDS, shards))) for i, n in enumerate(firsts)]


def planned_files(shards: int) -> dict[str, set[str]]:
    """Folder -> names of the files in it, where so many shards are planned."""
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
