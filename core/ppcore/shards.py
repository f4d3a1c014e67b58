"""The shard directory: names, schemas, and the reading side. The writing side is `ppgen.worker` and `ppgen.finalize`.

The reader trusts nothing in a tar: it accepts the plain ustar files our writer makes and refuses every other member type,
path separators, links and oversized members, so that a hostile archive can do no more than raise :class:`UserError`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import IO, Any

import numpy as np
import pyarrow as pa

from ppcore.errors import UserError
from ppcore.guard import MAX_JSON_BYTES, MAX_OBJECT_BYTES, parse_json, read_table
from ppcore.images import MAX_SIDE, SHARD_EXTENSIONS
from ppcore.storage import Store

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
MAX_MEMBER_BYTES = 256 << 20
_MAX_SAMPLES = 10**9
_BLOCK = 512

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
class RawSample:
    """One sample as it lies in a tar.

    Attributes:
        image: encoded bytes; `extension` says the format.
        label: source class, or None.
        soft: float32 (K,) condition of a pseudo sample, or None.
        offset: of the image bytes inside the tar.
    """

    key: str
    image: bytes
    extension: str
    label: int | None = None
    soft: np.ndarray | None = None
    offset: int = 0


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
            start = int(offsets[row]) - _BLOCK  # the image's header
            end = int(offsets[row + 1]) - _BLOCK if row + 1 < len(offsets) else shard.bytes
            data = self.store.read_range(shard.path, start, end - start)
        except (FileNotFoundError, ValueError, KeyError, IndexError) as error:
            raise UserError(
                f"sample {sample!r} of {path} cannot be found ({error}); run ppgen verify on its directory"
            ) from error
        found = next(iter_tar(io.BytesIO(data + bytes(_BLOCK)), path), None)
        if found is None or found.key != sample_key(position):
            raise UserError(
                f"{path} does not hold sample {sample!r} where its row says; run ppgen verify on its directory"
            )
        return replace(found, offset=start + _BLOCK)

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


def iter_tar(stream: IO[bytes], name: str = "tar") -> Iterator[RawSample]:
    """Samples of a shard tar: members grouped by key, adjacent, as :mod:`ppgen.worker` writes them.

    Raises:
        UserError: anything but regular ustar members `<key>.<jpg|png|webp|cls|soft.npy>`, or a truncated file.
    """
    key, parts, offset = "", {}, 0  # type: str, dict[str, bytes], int
    for member, position, data in _members(stream, name):
        stem, _, extension = member.partition(".")
        if stem != key and parts:
            yield _sample(key, parts, offset, name)
            parts = {}
        key = stem
        if extension in parts:
            raise UserError(f"{name} holds {member} twice; it was not written by ppgen")
        if extension in SHARD_EXTENSIONS:
            offset = position
        parts[extension] = data
    if parts:
        yield _sample(key, parts, offset, name)


def _members(stream: IO[bytes], name: str) -> Iterator[tuple[str, int, bytes]]:
    """(member name, data offset, data); a plain parser because tarfile costs more than decoding a small image."""
    position = 0
    while True:
        header = stream.read(_BLOCK)
        if len(header) < _BLOCK:
            raise UserError(
                f"{name} is truncated; run ppgen verify --repair on its directory, then ppgen again"
            )
        position += _BLOCK
        if header == bytes(_BLOCK):
            return
        member = header[:100].rstrip(b"\0").decode("ascii", "replace")
        if header[257:262] != b"ustar" or header[156:157] not in (b"0", b"\0") or header[345:346] != b"\0":
            raise UserError(f"{name} holds {member!r}, which is no plain file of a ppgen shard; refused")
        if not member or "/" in member or "\\" in member or member.startswith("."):
            raise UserError(
                f"{name} holds a member named {member!r}; shard members are <key>.<extension> without folders; refused"
            )
        size, checksum = _octal(header[124:136], name), _octal(header[148:156], name)
        if checksum != sum(header[:148]) + 8 * 32 + sum(header[156:]):
            raise UserError(f"{name} has a damaged header at {member!r}; run ppgen verify on its directory")
        if size > MAX_MEMBER_BYTES:
            raise UserError(
                f"{name} holds a member of {size} bytes; at most {MAX_MEMBER_BYTES} are accepted; refused"
            )
        data = stream.read(size)
        padding = -size % _BLOCK
        if len(data) < size or len(stream.read(padding)) < padding:
            raise UserError(
                f"{name} is truncated in {member!r}; run ppgen verify --repair on its directory, then ppgen again"
            )
        yield member, position, data
        position += size + padding


def _octal(digits: bytes, name: str) -> int:
    try:
        return int(digits.rstrip(b"\0 ") or b"0", 8)
    except ValueError as error:
        raise UserError(f"{name} has a damaged header; run ppgen verify on its directory") from error


def _sample(key: str, parts: dict[str, bytes], offset: int, name: str) -> RawSample:
    images = [extension for extension in parts if extension in SHARD_EXTENSIONS]
    unknown = set(parts) - set(SHARD_EXTENSIONS) - {"cls", "soft.npy"}
    if len(images) != 1 or unknown:
        raise UserError(
            f"{name}: sample {key!r} has members {sorted(parts)}, expected one image and a label; it was not written by ppgen"
        )
    try:
        label = int(parts["cls"]) if "cls" in parts else None
        soft = decode_soft(parts["soft.npy"]) if "soft.npy" in parts else None
    except ValueError as error:
        raise UserError(
            f"{name}: the label of sample {key!r} cannot be read ({error}); run ppgen verify on its directory"
        ) from error
    return RawSample(key, parts[images[0]], images[0], label, soft, offset)


def encode_soft(soft: np.ndarray) -> bytes:
    """float32 (K,) -> the bytes of a .npy file."""
    buffer = io.BytesIO()
    np.lib.format.write_array(
        buffer, np.ascontiguousarray(soft, dtype="<f4"), version=(1, 0), allow_pickle=False
    )
    return buffer.getvalue()


def decode_soft(data: bytes) -> np.ndarray:
    """The bytes of a .npy file -> float32 (K,). Raises ValueError for pickles and any other dtype or rank."""
    soft = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    if soft.dtype != np.float32 or soft.ndim != 1:
        raise ValueError(f"expected float32 (K,), found {soft.dtype} {soft.shape}")
    return soft


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
