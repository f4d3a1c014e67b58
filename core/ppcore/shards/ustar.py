"""The ustar format (POSIX.1-1988) as far as shards use it: plain files in one folder, a header block before each.

Put together by hand because :mod:`tarfile` takes longer for a header than encoding or decoding a small picture does.
"""

from __future__ import annotations

import tarfile
from typing import NamedTuple

TAR_BLOCK = 512
_NAME, _SIZE, _CHECKSUM = slice(0, 100), slice(124, 136), slice(148, 156)
_TYPE, _MAGIC, _PREFIX = slice(156, 157), slice(257, 262), slice(345, 346)
_BLANKS = b" " * 8  # as which the checksum counts itself


def _template() -> bytes:
    """A header without name, size and checksum, and without owner or clock."""
    header = bytearray(tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT, "ascii", "strict"))
    header[_SIZE], header[_CHECKSUM] = bytes(12), _BLANKS
    return bytes(header)


_TEMPLATE = _template()
_TEMPLATE_SUM = sum(_TEMPLATE)


class Member(NamedTuple):
    """What a header says: the file's name and its bytes."""

    name: str
    size: int


def build_header(name: str, size: int) -> bytes:
    """The header block of a plain file, as tarfile writes it.

    Args:
        name: ASCII, at most 100 characters.
    """
    label, digits = name.encode("ascii"), b"%011o\0" % size
    checksum = b"%06o\0 " % (_TEMPLATE_SUM + sum(label) + sum(digits))
    return b"".join(
        (
            label.ljust(100, b"\0"),
            _TEMPLATE[_NAME.stop : _SIZE.start],
            digits,
            _TEMPLATE[_SIZE.stop : _CHECKSUM.start],
            checksum,
            _TEMPLATE[_CHECKSUM.stop :],
        )
    )


def parse_header(header: bytes) -> Member:
    """What a header block says.

    Raises:
        ValueError: no plain ustar file, or damaged; the text is the end of a sentence that begins with the tar's name.
    """
    name = header[_NAME].rstrip(b"\0").decode("ascii", "replace")
    if header[_MAGIC] != b"ustar" or header[_TYPE] not in (b"0", b"\0") or header[_PREFIX] != b"\0":
        raise ValueError(f"holds {name!r}, which is no plain file of a ppgen shard; refused")
    size, checksum = _octal(header[_SIZE]), _octal(header[_CHECKSUM])
    if size is None or checksum != _checksum(header):
        raise ValueError(f"has a damaged header at {name!r}; run ppgen verify on its directory")
    return Member(name, size)


def rename_header(header: bytes, name: str) -> bytes:
    """The header with another name and the checksum that fits it; every other byte stays."""
    renamed = name.encode("ascii").ljust(100, b"\0") + header[_NAME.stop :]
    return renamed[: _CHECKSUM.start] + b"%06o\0 " % _checksum(renamed) + renamed[_CHECKSUM.stop :]


def padding(size: int) -> int:
    """Bytes that fill a file's last block."""
    return -size % TAR_BLOCK


def end_of_archive(size: int) -> bytes:
    """What follows `size` bytes of members: two empty blocks, then what fills the last record, as tar(1) pads."""
    return bytes(2 * TAR_BLOCK + -(size + 2 * TAR_BLOCK) % tarfile.RECORDSIZE)


def _checksum(header: bytes) -> int:
    return sum(header[: _CHECKSUM.start]) + sum(_BLANKS) + sum(header[_CHECKSUM.stop :])


def _octal(digits: bytes) -> int | None:
    """A number field; None for anything but octal digits (int() would also take signs and underscores)."""
    text = digits.strip(b"\0 ") or b"0"
    try:
        return int(text, 8) if text.isdigit() else None
    except ValueError:
        return None
