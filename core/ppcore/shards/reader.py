"""The shard directory: names, schemas, and the reading side. The writing side is `ppgen.shards.worker` and `ppgen.shards.finalize`."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from ppcore.errors import UserError
from ppcore.images import MAX_SIDE
from ppcore.shards.tars import BLOCK, RawSample, iter_tar
from ppcore.storage import MAX_JSON_BYTES, MAX_OBJECT_BYTES, Store, parse_json, read_table

FORMAT = "pptransfer-shards"
VERSION = 1
PLAN, INDEX, MANIFEST, CARD, REPORT, CONDITIONS = (
    "plan.json",
    "index.json",
    "manifest.parquet",
    "README.md",
    "report.html",
    "conditions.parquet",
)
SHARDS, META, COMMITS = "shards", "meta", "commits"
KINDS = ("synth", "pseudo")
_MAX_SAMPLES = 10**9

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


@dataclass(frozen=True, slots=True)
class ShardRef:
    """One committed shard: its number, its path below the directory, its samples and bytes."""

    index: int
    path: str
    samples: int
    bytes: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class ShardSet:
    """A finished shard directory.

    Attributes:
        kind: "synth" (labelled with source classes) or "pseudo" (unlabelled, conditioned on target images).
        class_names: names of the K source classes.
        classes: source classes that occur, ascending; a trainer's dense labels are positions in this list.
        plan: the whole plan.json.
    """

    store: Store
    plan: dict[str, Any]
    kind: str
    class_names: list[str]
    classes: list[int]
    resolution: int
    channels: int
    shards: list[ShardRef] = field(repr=False)
    _offsets: dict[int, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @property
    def samples(self) -> int:
        return sum(shard.samples for shard in self.shards)

    @property
    def num_classes(self) -> int:
        """K, the size of the source's label space."""
        return len(self.class_names)

    @property
    def fingerprint(self) -> str:
        return str(self.plan["fingerprint"])

    @property
    def urls(self) -> list[str]:
        """The explicit shard list, as plain webdataset takes it."""
        return [self.store.path(shard.path) for shard in self.shards]

    @classmethod
    def open(cls, root: str, *, kind: str | None = None) -> ShardSet:
        """Read plan.json and index.json.

        Args:
            root: local directory or URL.
            kind: refuse a directory of the other kind.

        Raises:
            UserError: no shard directory, unfinished, damaged, or of the wrong kind.
        """
        store = Store(root)
        plan = _read_json(
            store,
            PLAN,
            f"{root} is no shard directory (it has no plan.json); make one with ppgen synth or ppgen pseudo",
        )
        if plan.get("format") != FORMAT or plan.get("kind") not in KINDS:
            raise UserError(
                f"{root}/plan.json was not written by ppgen; point at a directory made by ppgen synth or ppgen pseudo"
            )
        if plan.get("version") != VERSION:
            raise UserError(
                f"{root} has shard format version {plan.get('version')!r}, this program reads {VERSION}; use the matching version"
            )
        if kind is not None and plan["kind"] != kind:
            made_by = {"synth": "ppgen synth", "pseudo": "ppgen pseudo"}
            raise UserError(
                f"{root} holds {plan['kind']} samples where {kind} samples are needed; give a directory made by {made_by[kind]}"
            )
        index = _read_json(
            store,
            INDEX,
            f"{root} is not finished (it has no index.json); run the same ppgen command again to resume it",
        )
        try:
            shards = [
                ShardRef(
                    int(i["index"]),
                    _shard_member(i["url"]),
                    _bounded("nsamples", i["nsamples"], _MAX_SAMPLES),
                    int(i["filesize"]),
                    str(i["sha256"]),
                )
                for i in index["shardlist"]
            ]
            return cls(
                store=store,
                plan=plan,
                kind=str(plan["kind"]),
                class_names=[str(name) for name in plan["source"]["class_names"]],
                classes=sorted(int(c) for c in plan["classes"]),
                resolution=_bounded("resolution", plan["resolution"], MAX_SIDE),
                channels=_bounded("channels", plan["channels"], 3),
                shards=shards,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{root} has a damaged plan.json or index.json ({error!r}); run ppgen verify on it"
            ) from error

    def read(self, shard: ShardRef) -> Iterator[RawSample]:
        """All samples of one shard, in order; the tar is read once, whole.

        Raises:
            UserError: the tar is missing, truncated, foreign or holds another number of samples than the index says.
        """
        try:
            data = self.store.read(shard.path, self.most_bytes(shard.samples))
        except FileNotFoundError as error:
            raise UserError(
                f"{self.store.path(shard.path)} is missing; run ppgen verify --repair, then ppgen again"
            ) from error
        count = 0
        for sample in iter_tar(io.BytesIO(data), self.store.path(shard.path)):
            count += 1
            yield sample
        if count != shard.samples:
            raise UserError(
                f"{self.store.path(shard.path)} holds {count} samples, the index says {shard.samples}; run ppgen verify on the directory"
            )

    def most_bytes(self, samples: int) -> int:
        """More than a tar of so many samples can have."""
        return most_bytes(samples, self.resolution, self.channels, self.num_classes)

    def fetch(self, sample: int | str) -> RawSample:
        """One sample by position or key (the key is the zero-padded position); reads its bytes alone.

        The first sample of a shard also reads the shard's parquet rows, whose offsets are then kept (8 bytes a sample).

        Raises:
            UserError: no such sample, or its shard is missing or damaged.
        """
        position = int(sample) if isinstance(sample, int) or sample.isdecimal() else -1
        shard, row = self._locate(position)
        if shard is None:
            raise UserError(f"{self.store} has no sample {sample!r}; it holds 0 to {self.samples - 1}")
        path = self.store.path(shard.path)
        try:
            offsets = self._offsets.get(shard.index)
            if offsets is None:
                offsets = self._offsets[shard.index] = _read_offsets(self.store.read(meta_path(shard.index)))
            start = int(offsets[row]) - BLOCK  # the image's header
            end = int(offsets[row + 1]) - BLOCK if row + 1 < len(offsets) else shard.bytes
            data = self.store.read_range(shard.path, start, end - start)
        except (FileNotFoundError, ValueError, KeyError, IndexError) as error:
            raise UserError(
                f"sample {sample!r} of {path} cannot be found ({error}); run ppgen verify on its directory"
            ) from error
        found = next(iter_tar(io.BytesIO(data + bytes(BLOCK)), path), None)
        if found is None or found.key != sample_key(position):
            raise UserError(
                f"{path} does not hold sample {sample!r} where its row says; run ppgen verify on its directory"
            )
        return replace(found, offset=start + BLOCK)

    def _locate(self, position: int) -> tuple[ShardRef | None, int]:
        """Shard of a position and the row in it."""
        if position >= 0:
            for shard in self.shards:
                if position < shard.samples:
                    return shard, position
                position -= shard.samples
        return None, 0


def most_bytes(samples: int, resolution: int, channels: int, num_classes: int) -> int:
    """More than a tar of so many samples can have: an encoded image is never twice its pixels and a few headers."""
    each = 2 * channels * resolution**2 + 4 * num_classes + (16 << 10)
    return min(samples * each + (1 << 20), MAX_OBJECT_BYTES)


def _read_offsets(meta: bytes) -> np.ndarray:
    return read_table(meta, None, columns=["offset"]).column("offset").to_numpy()


def _bounded(name: str, value: object, most: int) -> int:
    if not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"{name} is {value!r}")
    return value


def _shard_member(url: object) -> str:
    """A shard's path as the index gives it, kept inside the directory."""
    path = str(url)
    parts = path.split("/")
    if "://" in path or path.startswith("/") or ".." in parts:
        raise ValueError(f"shard path {path!r} leaves the directory")
    return path


def _read_json(store: Store, name: str, missing: str) -> dict[str, Any]:
    try:
        value = parse_json(store.read(name, MAX_JSON_BYTES))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(missing) from error
    except ValueError as error:
        raise UserError(
            f"{store.path(name)} is not valid JSON ({error}); restore it or start a new directory"
        ) from error
    if not isinstance(value, dict):
        raise UserError(f"{store.path(name)} is not a JSON object; restore it or start a new directory")
    return value
