"""Tars, pictures and parquet files made to do harm (see test_hostile.py)."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile import refusals, rewrite, tar_of


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(side: int, body: bytes, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


ZEROS = zlib.compress(bytes(64 << 20), 9)  # 64 KiB that become 64 MiB
PICTURES = {
    "size bomb": png(60_000, ZEROS),
    "body bomb": png(16, ZEROS),
    "text bomb": png(16, zlib.compress(bytes(16 * 17)), chunk(b"zTXt", b"k\0\0" + ZEROS)),
    "no picture": b"\x89PNG\r\n\x1a\n",
    "a pickle": pickle.dumps({"a": print}),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n(/etc/passwd) (r) file\n",
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(sound: Path, copy: Path, name: str) -> None:
    rewrite(copy, "tar", tar_of(sound, lambda i, key, data: (key, PICTURES[name] if i == 0 else data)))
    assert refusals(copy)


@pytest.mark.parametrize("name", ["../../../escaped.png", "/tmp/escaped.png", "000000020.\x1b[2J"])
def test_member_names(sound: Path, copy: Path, name: str) -> None:
    rewrite(copy, "tar", tar_of(sound, lambda i, key, data: (name if i == 0 else key, data)))
    assert len(refusals(copy)) == 2


def test_a_pickled_label(sound: Path, copy: Path) -> None:
    data = tar_of(
        sound,
        lambda i, key, data: (key, data) if i != 1 else (key[:9] + ".soft.npy", pickle.dumps(os.getcwd)),
    )
    rewrite(copy, "tar", data)
    assert len(refusals(copy)) == 2


def test_a_sparse_tar(copy: Path) -> None:
    os.truncate(copy / "shards/000001.tar", 1 << 40)
    messages = refusals(copy)
    assert "are accepted" in messages[0]
    assert "are accepted" in messages[2]


@pytest.mark.parametrize("target", ["/dev/zero", "pipe"])
@pytest.mark.parametrize(
    "name", ["shards/000001.tar", "meta/000001.parquet", "plan.json", "index.json", "manifest.parquet"]
)
def test_devices_and_pipes(copy: Path, name: str, target: str) -> None:
    if target == "pipe":
        os.mkfifo(copy / "pipe")
    (copy / name).unlink()
    (copy / name).symlink_to(target if target != "pipe" else copy / "pipe")
    assert refusals(copy)


# ---- parquet


def repeated(value: Any, kind: pa.DataType, count: int) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array([value] * 1000, kind)] * (count // 1000))


def parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def many_rows(good: pa.Table) -> bytes:
    """Some KiB that become a million rows of 64 characters."""
    return parquet(pa.table({"sha256": repeated("0" * 64, pa.string(), 1_000_000)}))


def long_strings(good: pa.Table) -> bytes:
    """As many rows as planned, one of them with a text of 16 MB."""
    return parquet(good.set_column(0, good.schema.field(0), pa.array(["0" * (16 << 20)] + ["0"] * 19)))


def other_columns(good: pa.Table) -> bytes:
    return parquet(good.rename_columns([f"x{i}" for i in range(good.num_columns)]))


@pytest.mark.parametrize("make", [many_rows, long_strings, other_columns, lambda good: b"PAR1" * 100])
@pytest.mark.parametrize("place", ["meta", "manifest"])
def test_tables(sound: Path, copy: Path, make: Callable[[pa.Table], bytes], place: str) -> None:
    data = make(pq.read_table(sound / "meta/000001.parquet"))
    if place == "meta":
        rewrite(copy, "parquet", data)
    else:
        (copy / "manifest.parquet").write_bytes(data)
    messages = refusals(copy)
    assert messages
    assert "parquet" in messages[0]
