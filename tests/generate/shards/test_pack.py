from __future__ import annotations

import io
import tarfile

import pytest

from ppgen.shards.pack import TarBuffer


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("000000001.png", b"x"),
        ("000000002.cls", b""),
        ("a" * 100, b"12"),
        ("000000003.jpg", bytes(2_000_000)),
    ],
)
def test_a_header_is_what_tarfile_writes(name: str, data: bytes) -> None:
    ours, theirs = TarBuffer(), io.BytesIO()
    offset = ours.add(name, data)
    with tarfile.open(fileobj=theirs, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    packed = ours.close()
    assert packed == theirs.getvalue()
    assert packed[offset : offset + len(data)] == data
