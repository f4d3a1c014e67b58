"""Headers of the tar format ustar (POSIX.1-1988), for regular files without folders.

:mod:`tarfile` needs more time for a header than it takes to encode or decode a small image.
"""

from __future__ import annotations

import tarfile
from typing import NamedTuple

TAR_BLOCK = 512
_NAME, _SIZE, _CHECKSUM = slice(0, 100), slice(124, 136), slice(148, 156)
_TYPE, _MAGIC, _PREFIX = slice(156, 157), slice(257, 262), slice(345, 346)
_BLANKS = b" " * 8  # the checksum is computed as if its own field were blank


def _template() -> bytes:
    """A header without name, size, checksum, owner and time."""
    header = bytearray(tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT, "ascii", "strict"))
    header[_SIZE], header[_CHECKSUM] = bytes(12), _BLANKS
    return bytes(header)


_TEMPLATE = _template()
_TEMPLATE_SUM = sum(_TEMPLATE)


class Member(NamedTuple):
    """Name and size (bytes) of a file in a tar."""

    name: str
    size: int


def build_header(name: str, size: int) -> bytes:
    """The header block of a regular file, as tarfile writes it.

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
    """Read a header block.

    Raises:
        ValueError: damaged, or not a regular file; the text continues a sentence that begins with the tar's name.
    """
    name = header[_NAME].rstrip(b"\0").decode("ascii", "replace")
    if header[_MAGIC] != b"ustar" or header[_TYPE] not in (b"0", b"\0") or header[_PREFIX] != b"\0":
        raise ValueError(f"holds {name!r}, which is not a regular file of a ppgen shard")
    size, checksum = _octal(header[_SIZE]), _octal(header[_CHECKSUM])
    if size is None or checksum != _checksum(header):
        raise ValueError(f"has a damaged header at {name!r}; run ppgen verify on its directory")
    return Member(name, size)


def padding(size: int) -> int:
    """Number of bytes that fill the last block of a file."""
    return -size % TAR_BLOCK


def end_of_archive(size: int) -> bytes:
    """The end of a tar after `size` bytes of members: two empty blocks, then zeros up to a full record, as tar(1) writes it."""
    return bytes(2 * TAR_BLOCK + -(size + 2 * TAR_BLOCK) % tarfile.RECORDSIZE)


def _checksum(header: bytes) -> int:
    return sum(header[: _CHECKSUM.start]) + sum(_BLANKS) + sum(header[_CHECKSUM.stop :])


def _octal(digits: bytes) -> int | None:
    """The number in a field; None if it is not octal digits (int() would also accept signs and underscores)."""
    text = digits.strip(b"\0 ") or b"0"
    try:
        return int(text, 8) if text.isdigit() else None
    except ValueError:
        return None
