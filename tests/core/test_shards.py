"""The reader against directories and archives that are unfinished, foreign or hostile."""

import io
import json
import tarfile

import numpy as np
import pytest

from ppcore.errors import UserError
from ppcore.shards import ShardSet
from ppcore.shards.tars import decode_soft, encode_soft, iter_tar


def make_tar(members, tar_format=tarfile.USTAR_FORMAT):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as archive:
        for name, data, kind in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.size = len(data)
            info.linkname = "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def read(data):
    return list(iter_tar(io.BytesIO(data), "x.tar"))


FILE = tarfile.REGTYPE


def test_reads_labels_soft_labels_and_offsets():
    soft = np.array([0.25, 0.75], dtype=np.float32)
    data = make_tar([("000000001.png", b"png!", FILE), ("000000001.cls", b"7", FILE), ("000000002.jpg", b"jpg", FILE),
                     ("000000002.soft.npy", encode_soft(soft), FILE)])  # fmt: skip
    first, second = read(data)
    assert (first.key, first.image, first.extension, first.label, first.soft) == (
        "000000001",
        b"png!",
        "png",
        7,
        None,
    )
    assert data[second.offset : second.offset + 3] == b"jpg"
    assert second.label is None
    assert np.array_equal(second.soft, soft)


@pytest.mark.parametrize("name", ["../evil.png", "/abs.png", "a/b.png", ".hidden.png", "..\\evil.png"])
def test_path_traversal_is_refused(name):
    with pytest.raises(UserError, match=r"not a regular file|without folders|that are accepted"):
        read(make_tar([(name, b"x", FILE)]))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_links_and_devices_are_refused(kind):
    with pytest.raises(UserError, match=r"not a regular file|without folders|that are accepted"):
        read(make_tar([("000000001.png", b"", kind)]))


def test_pax_headers_are_refused():
    with pytest.raises(UserError, match=r"not a regular file|without folders|that are accepted"):
        read(make_tar([("1" * 200 + ".png", b"x", FILE)], tarfile.PAX_FORMAT))


def test_gigantic_member_is_refused_before_it_is_read():
    header = tarfile.TarInfo("000000001.png")
    header.size = (8 << 30) - 1
    with pytest.raises(UserError, match=r"not a regular file|without folders|that are accepted"):
        read(header.tobuf(tarfile.USTAR_FORMAT))


def test_pickle_is_never_loaded():
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="expected a"):
        decode_soft(buffer.getvalue())
    with pytest.raises(UserError, match="cannot be read"):
        read(make_tar([("1.png", b"x", FILE), ("1.soft.npy", buffer.getvalue(), FILE)]))


def npy(header: str, data: bytes = b"\0" * 8) -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text + data


@pytest.mark.parametrize(
    "shape",
    ["(999999999999,)", "(999999999,)", "(-1,)", "(2, 10**9)", f"({'9' * 4000},)", "(" * 9000, f"({'-' * 9000}1,)", "(3,)", "()"],
    ids=["memory", "short", "negative", "product", "digits", "brackets", "signs", "other", "scalar"],
)  # fmt: skip
def test_hostile_shapes_are_one_sentence(shape: str) -> None:
    """numpy's own reader raised MemoryError, OverflowError or RecursionError for most of them."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    with pytest.raises(ValueError, match=r"expected a .npy file|its header says"):
        decode_soft(npy(header))
    with pytest.raises(UserError, match="cannot be read"):
        read(make_tar([("1.png", b"x", FILE), ("1.soft.npy", npy(header), FILE)]))


@pytest.mark.parametrize("count", [0, 1, 7, 1000, 21841])
def test_soft_labels_come_back(count: int) -> None:
    soft = np.random.default_rng(0).random(count, dtype=np.float32)
    assert np.array_equal(decode_soft(encode_soft(soft)), soft)


@pytest.mark.parametrize("label", [b"", b"-1", b"1_0", b"9" * 5000, b"x"])
def test_hostile_classes_are_one_sentence(label: bytes) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read(make_tar([("1.png", b"x", FILE), ("1.cls", label, FILE)]))


@pytest.mark.parametrize("cut", [100, 512, 700, 1200, 1536])
def test_truncation_is_noticed_everywhere(cut):
    whole = make_tar([("1.png", b"x" * 100, FILE), ("1.cls", b"0", FILE)])
    with pytest.raises(UserError, match="truncated"):
        read(whole[:cut])


def test_flipped_header_byte_is_noticed():
    data = bytearray(make_tar([("1.png", b"x", FILE), ("1.cls", b"0", FILE)]))
    data[3] ^= 1
    with pytest.raises(UserError, match="damaged"):
        read(bytes(data))


@pytest.mark.parametrize("members", [["1.png", "1.jpg"], ["1.cls"], ["1.png", "1.txt"]])
def test_foreign_samples_are_refused(members):
    with pytest.raises(UserError, match="not written by ppgen"):
        read(make_tar([(name, b"0", FILE) for name in members]))


def write_directory(root, *, index=True, **plan):
    fields = {"format": "pptransfer-shards", "version": 2, "kind": "synth", "source": {"class_names": ["a", "b"]},
              "classes": [0, 1], "resolution": 8, "channels": 1, "fingerprint": "f"}  # fmt: skip
    (root / "plan.json").write_text(json.dumps(fields | plan))
    if index:
        shard = {"index": 0, "url": "shards/000000.tar", "nsamples": 1, "filesize": 1, "sha256": ""}
        (root / "index.json").write_text(json.dumps({"shardlist": [shard]}))


def test_open_reads_what_the_trainer_needs(tmp_path):
    write_directory(tmp_path)
    shards = ShardSet.open(str(tmp_path), kind="synth")
    assert (shards.num_classes, shards.samples, shards.resolution, shards.fingerprint) == (2, 1, 8, "f")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "pseudo"}, "holds pseudo samples where synth"),
        ({"format": "else"}, "not written by ppgen"),
        ({"version": 9}, "version 9"),
        ({"classes": None}, "damaged"),
        ({"index": False}, "not finished"),
    ],
)
def test_open_refuses_in_one_sentence(tmp_path, change, message):
    write_directory(tmp_path, **change)
    with pytest.raises(UserError, match=message):
        ShardSet.open(str(tmp_path), kind="synth")


def test_open_refuses_a_folder_without_plan(tmp_path):
    with pytest.raises(UserError, match="no plan"):
        ShardSet.open(str(tmp_path))


def test_index_cannot_point_outside(tmp_path):
    write_directory(tmp_path)
    shard = {"index": 0, "url": "../../secret.tar", "nsamples": 1, "filesize": 1, "sha256": ""}
    (tmp_path / "index.json").write_text(json.dumps({"shardlist": [shard]}))
    with pytest.raises(UserError, match="damaged"):
        ShardSet.open(str(tmp_path))
