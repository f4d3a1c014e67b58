"""The commit record of a shard. It is written last: a shard with a record is complete."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

from pydantic import Field

from ppcore.platforms import Platform
from ppcore.shards import commit_path
from ppcore.storage import MAX_OBJECT_BYTES, OutsideError, Store, decode, in_order

_MAX_COMMIT_BYTES = 1 << 20
_MAX_SAMPLES = 10**9
_PACKAGES = ("pptransfer", "torch", "diffusers", "numpy", "pyarrow", "pillow", "simplejpeg")

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Samples = Annotated[int, Field(ge=0, le=_MAX_SAMPLES)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class StoredFile:
    """Size and checksum of a file."""

    bytes: Annotated[int, Field(ge=0, le=MAX_OBJECT_BYTES)]
    sha256: Sha256


def stored_file(data: bytes) -> StoredFile:
    """Size and checksum of a file with this content."""
    return StoredFile(len(data), hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class Duration:
    """Seconds that a shard took: for sampling, and in total."""

    sampling: Seconds
    total: Seconds


@dataclass(frozen=True, kw_only=True)
class ShardCommit:
    """`commits/NNNNNN.json`: which files were written, and on which machine with which libraries.

    Attributes:
        shard: its number.
        fingerprint: of all that decides the shard's bytes (see :meth:`ppgen.plan.Plan.shard_fingerprint`).
        samples, first_index: the global sample indices it holds.
        bad: images with NaN or infinite values that were drawn again; None if there were none.
        tar, parquet: the two files.
        host, device, threads, versions: where it was made, with which libraries.
        platform: hardware and settings that decide the last bits of the images; None in old records.
    """

    shard: Annotated[int, Field(ge=0)]
    fingerprint: Sha256
    samples: Samples
    first_index: Samples
    bad: Samples | None = None
    tar: StoredFile
    parquet: StoredFile
    seconds: Duration
    host: str
    device: str
    threads: Annotated[int, Field(ge=0)]
    versions: dict[str, str]
    platform: Platform | None = None

    def to_json(self) -> bytes:
        """Content of the file."""
        return json.dumps(asdict(self, dict_factory=_given), indent=1).encode() + b"\n"


def _given(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in items if value is not None}


def read_commit(store: Store, shard: int) -> ShardCommit:
    """A shard's commit record.

    Raises:
        FileNotFoundError: not committed.
        ValueError: damaged.
    """
    return decode(ShardCommit, store.read(commit_path(shard), _MAX_COMMIT_BYTES))


def read_commits(store: Store, shards: Iterable[int]) -> Iterator[ShardCommit | Exception]:
    """The commit records of shards, in order, or the errors that :func:`read_commit` raises. Object stores are read in parallel."""

    def read(shard: int) -> ShardCommit | Exception:
        try:
            return read_commit(store, shard)
        except (FileNotFoundError, ValueError, OutsideError) as error:
            return error

    return in_order(read, shards, store.width)


def write_commit(store: Store, commit: ShardCommit) -> None:
    """Write a commit record. The tar and the parquet file must have been written before."""
    store.write_atomic(commit_path(commit.shard), commit.to_json())


@functools.cache  # looking them up takes longer than packing a thousand small images
def library_versions() -> dict[str, str]:
    """Versions of the libraries that affect the bytes."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
