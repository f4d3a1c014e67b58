"""The two files of a shard: the tar and the parquet rows that describe it. Equal samples give equal bytes."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
from PIL import Image

from ppcore.shards import ROW_SCHEMA, build_header, encode_soft, end_of_archive, padding, sample_key
from ppgen.plan import LOSSLESS_UP_TO, Plan, Rows

Encoder = Callable[[np.ndarray], bytes]


def make_encoder(encoding: dict[str, Any]) -> Encoder:
    """A function uint8 (C, H, W), C 1 or 3, -> file bytes; pure and safe to call from several threads."""
    image_format = encoding["format"]
    if image_format == "jpg":
        return lambda image: _jpeg(image, encoding["quality"], encoding["subsampling"])
    if image_format == "png":
        return lambda image: _png(image, encoding["level"])
    return lambda image: _pillow(image, "WEBP", quality=encoding["quality"])


def _interleaved(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image.transpose(1, 2, 0))  # (C, H, W) -> (H, W, C)


def _jpeg(image: np.ndarray, quality: int, subsampling: str) -> bytes:
    grey = image.shape[0] == 1
    pixels = _interleaved(image)
    return simplejpeg.encode_jpeg(
        pixels,
        quality=quality,
        colorspace="GRAY" if grey else "RGB",
        colorsubsampling="Gray" if grey else subsampling,
    )


def _png(image: np.ndarray, level: int) -> bytes:
    """8-bit grey or RGB PNG; small ones without row filters and without Pillow, whose set-up costs twice the work."""
    channels, height, width = image.shape
    if max(height, width) > LOSSLESS_UP_TO:
        return _pillow(image, "PNG", compress_level=level)
    rows = np.zeros(
        (height, 1 + width * channels), dtype=np.uint8
    )  # each row begins with its filter, 0 = none
    rows[:, 1:] = _interleaved(image).reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    body = zlib.compress(rows.tobytes(), level)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _pillow(image: np.ndarray, name: str, **options: int) -> bytes:
    pixels = _interleaved(image)
    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if image.shape[0] == 1 else pixels).save(buffer, name, **options)
    return buffer.getvalue()


TOP_CLASSES = 10  # entries of a soft condition kept in the parquet row; the tar has all of them


class TarBuffer:
    """A ustar archive in memory. It records no time and no owner, so that equal files give equal bytes."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()

    def add(self, name: str, data: bytes) -> int:
        """Append a regular file; returns the offset of its data.

        Args:
            name: ASCII, at most 100 characters.
        """
        self._buffer.write(build_header(name, len(data)))
        offset = self._buffer.tell()
        self._buffer.write(data)
        self._buffer.write(bytes(padding(len(data))))
        return offset

    def close(self) -> bytes:
        """The finished archive."""
        self._buffer.write(end_of_archive(self._buffer.tell()))
        return self._buffer.getvalue()


@dataclass(frozen=True)
class Samples:
    """The samples of a shard, position by position.

    Attributes:
        rows: the plan's rows.
        condition: float32 (n, K), the conditions of the generator.
        label: int64 (n,) source class, None when conditions are soft.
        images: n encoded images.
        confidence: float32 (n,) or None.
        attempt: int16 (n,), bad draws of the sample before this one; None if there were none.
        target_ids: n names (pseudo) or None.
        bad: images with NaN or infinite values that were drawn again.
    """

    rows: Rows
    condition: np.ndarray
    label: np.ndarray | None
    images: list[bytes]
    confidence: np.ndarray | None = None
    attempt: np.ndarray | None = None
    target_ids: list[str] | None = None
    bad: int = 0


def pack(plan: Plan, shard: int, samples: Samples) -> tuple[bytes, bytes]:
    """(tar bytes, parquet bytes) of a shard."""
    tar, offsets = pack_tar(plan, samples)
    return tar, to_parquet(describe_rows(shard, samples, offsets))


def pack_tar(plan: Plan, samples: Samples) -> tuple[bytes, list[int]]:
    """A shard's tar and the offsets of its images. Samples are in the order of their index, the files of a sample follow each other."""
    tar = TarBuffer()
    keys = [sample_key(int(index)) for index in samples.rows.index]
    offsets = []
    for position, (key, image) in enumerate(zip(keys, samples.images, strict=True)):
        offsets.append(tar.add(f"{key}.{plan.encoding['format']}", image))
        if plan.kind == "synth":
            assert samples.label is not None
            tar.add(f"{key}.cls", str(int(samples.label[position])).encode())
        else:
            tar.add(f"{key}.soft.npy", encode_soft(samples.condition[position]))
    return tar.close(), offsets


def describe_rows(shard: int, samples: Samples, offsets: list[int]) -> pa.Table:
    """The parquet rows of a shard (see :data:`ppcore.shards.ROW_SCHEMA`)."""
    count = len(samples.rows)
    nothing = [None] * count
    soft_classes, soft_probs = (
        (nothing, nothing) if samples.label is not None else _largest(samples.condition)
    )
    columns: dict[str, object] = {
        "key": [sample_key(int(index)) for index in samples.rows.index],
        "index": samples.rows.index,
        "shard": np.full(count, shard, dtype=np.int32),
        "class": nothing if samples.label is None else samples.label.astype(np.int32),
        "soft_classes": soft_classes,
        "soft_probs": soft_probs,
        "entropy": entropy(samples.condition),
        "norm": np.linalg.norm(samples.condition.astype(np.float64), axis=1).astype(np.float32),
        "seed": samples.rows.seed,
        "attempt": np.zeros(count, dtype=np.int16) if samples.attempt is None else samples.attempt,
        "target_id": samples.target_ids or nothing,
        "bytes": [len(image) for image in samples.images],
        "sha256": [hashlib.sha256(image).hexdigest() for image in samples.images],
        "offset": offsets,
        "confidence": nothing if samples.confidence is None else samples.confidence,
    }
    arrays = [pa.array(columns[column.name], type=column.type) for column in ROW_SCHEMA]
    return pa.table(arrays, schema=ROW_SCHEMA)


def entropy(condition: np.ndarray) -> np.ndarray:
    """Entropy of every row in nats: float32 (n,); 0 for one-hot rows."""
    p = condition.astype(np.float64)
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    return np.abs(-(p * logs).sum(axis=1)).astype(np.float32)  # abs: no negative zero


def _largest(condition: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Classes and probabilities of the largest non-zero entries of every row, descending."""
    order = np.argsort(-condition, axis=1, kind="stable")[:, :TOP_CLASSES]
    values = np.take_along_axis(condition, order, axis=1)
    kept = values > 0
    classes = [order[i, kept[i]].astype(np.int32) for i in range(len(order))]
    return classes, [values[i, kept[i]] for i in range(len(order))]


def to_parquet(table: pa.Table) -> bytes:
    """The bytes of a shard's parquet file; equal rows give equal bytes."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=len(table))
    return buffer.getvalue()
