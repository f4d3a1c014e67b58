"""Shard directories made to do harm: verify, merge, report, a resumed run and the trainer's reader refuse them in words.

The tar reader's own part is in tests/core/test_shards.py.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import resource
import shutil
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rig import stored, synth

from ppcore.errors import UserError
from ppcore.shards import ShardSet
from ppgen.plan.plan import canonical_json
from ppgen.plan.request import Settings
from ppgen.upkeep.merge import merge_directories
from ppgen.upkeep.repair import requeue_shards
from ppgen.upkeep.report import Report
from ppgen.upkeep.verify import verify_directory
from pptrain.data import decode_into, open_shard_pool

BOMB = 3 << 30  # bytes that something small claims to be


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sound") / "out"
    assert synth(out) == 0
    return out


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another directory, to merge with."""
    out = tmp_path_factory.mktemp("other") / "out"
    assert synth(out, settings=Settings(seed=9, batch_size=8, samples_per_shard=20)) == 0
    return out


@pytest.fixture
def copy(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "copy"))


@contextmanager
def memory(more: int) -> Iterator[None]:
    """A bomb that goes off fails the test and not the machine."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def rewrite(out: Path, name: str, data: bytes) -> None:
    """Replace one file of shard 1 and make its commit record and the index agree, as an attacker would."""
    folder, suffix = {"tar": ("shards", "tar"), "parquet": ("meta", "parquet")}[name]
    (out / folder / f"000001.{suffix}").write_bytes(data)
    facts = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    record = json.loads((out / "commits/000001.json").read_text())
    record[name] = facts
    (out / "commits/000001.json").write_text(json.dumps(record))
    if name == "tar":
        index = json.loads((out / "index.json").read_text())
        index["shardlist"][1] |= {"filesize": facts["bytes"], "sha256": facts["sha256"]}
        (out / "index.json").write_text(json.dumps(index))


def forge_plan(out: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change plan.json and give it the fingerprint that fits."""
    plan = json.loads((out / "plan.json").read_text())
    change(plan)
    identity = {key: value for key, value in plan.items() if key not in ("load", "samples", "fingerprint")}
    plan["fingerprint"] = hashlib.sha256(canonical_json(identity)).hexdigest()
    (out / "plan.json").write_text(json.dumps(plan))


def refusals(out: Path, other: Path) -> list[str]:
    """What verify, merge, a resumed run and the trainer say; none of them may raise anything but UserError, or leave a thing."""
    told = []
    before = sorted(out.parent.rglob("*"))

    def read_all() -> None:
        pool = open_shard_pool([str(out)], "synth")
        for shard in range(len(pool.refs)):
            for sample in pool.read(shard):
                decode_into(
                    sample, np.empty((pool.resolution, pool.resolution, pool.channels), np.uint8), "x"
                )

    def checked() -> None:
        report = verify_directory(*stored(out))
        problems = [problem for found in report.shards.values() for problem in found] + report.general
        if problems:
            raise UserError("; ".join(problems))

    for action in (
        checked,
        lambda: merge_directories([str(out), str(other)], str(out.parent / "merged")),
        read_all,
    ):
        try:
            with memory(BOMB // 2):
                action()
        except UserError as error:
            told.append(str(error))
        shutil.rmtree(out.parent / "merged", ignore_errors=True)
    assert sorted(out.parent.rglob("*")) == before
    assert all(text.isprintable() and len(text) < 2000 for text in told)
    return told


# ---- plan.json, index.json, commit records


def deep(out: Path) -> None:
    (out / "plan.json").write_text("[" * 200_000)


def endless_shards(out: Path) -> None:
    def change(plan: dict[str, Any]) -> None:
        plan["segments"] = [{"start": 0, "samples": 3 * 10**17, "per_class": 10**17}]
        plan["samples_per_shard"] = 1

    forge_plan(out, change)


def enormous_pictures(out: Path) -> None:
    forge_plan(out, lambda plan: plan.update(resolution=10**7))


def odd_types(out: Path) -> None:
    forge_plan(out, lambda plan: plan.update(encoding=[["png"]], classes=[{"a": 1}]))


def escapes(out: Path) -> None:
    forge_plan(out, lambda plan: plan.update(version="\x1b]0;gone\x07"))


@pytest.mark.parametrize("tamper", [deep, endless_shards, enormous_pictures, odd_types, escapes])
def test_plans(copy: Path, other: Path, tamper: Callable[[Path], None]) -> None:
    tamper(copy)
    assert len(refusals(copy, other)) >= 2  # the trainer does not look at everything


@pytest.mark.parametrize(
    "record",
    [[], {}, {"tar": 3}, {"fingerprint": "x", "samples": 20, "tar": "x", "parquet": []}, "[" * 200_000],
    ids=["list", "empty", "number", "strings", "deep"],
)
def test_commit_records(copy: Path, other: Path, record: Any) -> None:
    (copy / "commits/000001.json").write_text(record if isinstance(record, str) else json.dumps(record))
    told = refusals(copy, other)
    assert "damaged commit record" in told[0]


@pytest.mark.parametrize(
    "change", [{"nsamples": 10**15}, {"nsamples": -1}, {"url": "../../x"}, {"url": "/etc/passwd"}]
)
def test_indexes(copy: Path, other: Path, change: dict[str, Any]) -> None:
    index = json.loads((copy / "index.json").read_text())
    index["shardlist"][1] |= change
    (copy / "index.json").write_text(json.dumps(index))
    told = refusals(copy, other)
    assert len(told) == 3
    with pytest.raises(UserError, match="damaged"):
        ShardSet.open(str(copy))


# ---- tars and pictures


def tar_of(sound: Path, change: Callable[[int, str, bytes], tuple[str, bytes]]) -> bytes:
    """Shard 1 with other members."""
    buffer = io.BytesIO()
    with (
        tarfile.open(sound / "shards/000001.tar") as old,
        tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as new,
    ):
        for number, member in enumerate(old):
            file = old.extractfile(member)
            assert file is not None
            name, data = change(number, member.name, file.read())
            info = tarfile.TarInfo(name)
            info.size = len(data)
            new.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


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
def test_pictures(sound: Path, copy: Path, other: Path, name: str) -> None:
    rewrite(copy, "tar", tar_of(sound, lambda i, key, data: (key, PICTURES[name] if i == 0 else data)))
    assert refusals(copy, other)


@pytest.mark.parametrize("name", ["../../../escaped.png", "/tmp/escaped.png", "000000020.\x1b[2J"])
def test_member_names(sound: Path, copy: Path, other: Path, name: str) -> None:
    rewrite(copy, "tar", tar_of(sound, lambda i, key, data: (name if i == 0 else key, data)))
    assert len(refusals(copy, other)) == 3


def test_a_pickled_label(sound: Path, copy: Path, other: Path) -> None:
    data = tar_of(
        sound,
        lambda i, key, data: (key, data) if i != 1 else (key[:9] + ".soft.npy", pickle.dumps(os.getcwd)),
    )
    rewrite(copy, "tar", data)
    assert len(refusals(copy, other)) == 3


def test_a_sparse_tar(copy: Path, other: Path) -> None:
    os.truncate(copy / "shards/000001.tar", 1 << 40)
    told = refusals(copy, other)
    assert "are accepted" in told[0]
    assert "are accepted" in told[2]


@pytest.mark.parametrize("target", ["/dev/zero", "pipe"])
@pytest.mark.parametrize(
    "name", ["shards/000001.tar", "meta/000001.parquet", "plan.json", "index.json", "manifest.parquet"]
)
def test_devices_and_pipes(copy: Path, other: Path, name: str, target: str) -> None:
    if target == "pipe":
        os.mkfifo(copy / "pipe")
    (copy / name).unlink()
    (copy / name).symlink_to(target if target != "pipe" else copy / "pipe")
    assert refusals(copy, other)


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
def test_tables(sound: Path, copy: Path, other: Path, make: Callable[[pa.Table], bytes], place: str) -> None:
    data = make(pq.read_table(sound / "meta/000001.parquet"))
    if place == "meta":
        rewrite(copy, "parquet", data)
    else:
        (copy / "manifest.parquet").write_bytes(data)
    told = refusals(copy, other)
    assert told
    assert "parquet" in told[0]


# ---- links


def test_nothing_behind_a_link_is_deleted(copy: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    shutil.move(copy / "shards", precious)
    for name in ("000777.tar", ".tmp-mine", "letter.txt"):
        (precious / name).write_text("precious")
    before = sorted(precious.iterdir())
    (copy / "shards").symlink_to(precious)
    store, plan = stored(copy)
    assert verify_directory(store, plan).general  # strays are named
    with pytest.raises(UserError, match="symbolic link"):
        requeue_shards(store, plan, Report())
    (copy / "commits/000001.json").unlink()
    with pytest.raises(UserError, match="symbolic link"):
        synth(copy)
    assert sorted(precious.iterdir()) == before


def test_a_resumed_run_survives_hostile_files(copy: Path, sound: Path, tmp_path: Path) -> None:
    """Links in the place of files are replaced, never written through."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for name in ("shards/000001.tar", "commits/000001.json", "index.json", "README.md"):
        (copy / name).unlink()
        (copy / name).symlink_to(secret)
    assert synth(copy) == 0
    assert secret.read_text() == "secret"
    assert (copy / "shards/000001.tar").read_bytes() == (sound / "shards/000001.tar").read_bytes()
    assert verify_directory(*stored(copy)).ok
