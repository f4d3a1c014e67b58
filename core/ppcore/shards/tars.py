"""Headers of the tar format ustar (POSIX.1-1988), reading the tars of a shard directory, and the soft labels in them.

A tar may come from anybody. Only regular files as ppgen writes them are accepted. Links, folders, other member types and members that are
too large raise :class:`UserError`.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, NamedTuple

import numpy as np

from ppcore.errors import UserError
from ppcore.images import SHARD_EXTENSIONS

# The headers are made here because `tarfile` needs more time for one than it takes to encode or decode a small image.
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


MAX_MEMBER_BYTES = 256 << 20
_LONGEST_LABEL = 12  # characters
_NPY_PREFIX = 10  # bytes before the header: magic, version, length of the header
_NPY = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '<f4', 'fortran_order': False, 'shape': \((?P<count>\d{1,9}),\), \} *\n",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class RawSample:
    """One sample as it is stored in a tar.

    Attributes:
        image: encoded bytes in the format of `extension`.
        label: source class, or None.
        soft: float32 (K,) condition of a pseudo sample, or None.
        offset: position of the image bytes in the tar.
    """

    key: str
    image: bytes
    extension: str
    label: int | None = None
    soft: np.ndarray | None = None
    offset: int = 0


def encode_soft(soft: np.ndarray) -> bytes:
    """float32 (K,) -> bytes of a .npy file."""
    buffer = io.BytesIO()
    np.lib.format.write_array(
        buffer, np.ascontiguousarray(soft, dtype="<f4"), version=(1, 0), allow_pickle=False
    )
    return buffer.getvalue()


def decode_soft(data: bytes) -> np.ndarray:
    """Bytes of a .npy file as :func:`encode_soft` writes it -> float32 (K,).

    numpy's own reader would evaluate the header and allocate the size that it claims. Here the header must match one pattern, and its
    shape must fit the number of bytes.

    Raises:
        ValueError: another dtype, rank or size, or a pickle.
    """
    match = _NPY.match(data)
    if match is None:
        raise ValueError("expected a .npy file of float32 (K,)")
    count, size = int(match["count"]), len(data) - _NPY_PREFIX - int.from_bytes(data[8:10], "little")
    if match.end() != len(data) - size or 4 * count != size:
        raise ValueError(f"its header says float32 ({count},), but {size} bytes follow")
    return np.frombuffer(data, "<f4", offset=len(data) - size).astype(np.float32)


def iter_tar(stream: IO[bytes], name: str = "tar") -> Iterator[RawSample]:
    """Samples of a shard tar, in order. The members of a sample follow each other and begin with its key.

    Args:
        name: of the tar, for error messages.

    Raises:
        UserError: a truncated tar, or a member that is not a regular file `<key>.<jpg|png|webp|cls|soft.npy>`.
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
    """(member name, data offset, data)."""
    position = 0
    while True:
        header = stream.read(TAR_BLOCK)
        if len(header) < TAR_BLOCK:
            raise UserError(
                f"{name} is truncated; run ppgen verify --repair on its directory, then ppgen again"
            )
        position += TAR_BLOCK
        if header == bytes(TAR_BLOCK):
            return
        try:
            member, size = parse_header(header)
        except ValueError as error:
            raise UserError(f"{name} {error}") from None
        if not member or "/" in member or "\\" in member or member.startswith("."):
            raise UserError(
                f"{name} holds a member named {member!r}; members of a shard are called <key>.<extension>, without folders"
            )
        if size > MAX_MEMBER_BYTES:
            raise UserError(
                f"{name} holds a member of {size} bytes, more than the {MAX_MEMBER_BYTES} that are accepted"
            )
        data = stream.read(size)
        rest = padding(size)
        if len(data) < size or len(stream.read(rest)) < rest:
            raise UserError(
                f"{name} is truncated in {member!r}; run ppgen verify --repair on its directory, then ppgen again"
            )
        yield member, position, data
        position += size + rest


def _sample(key: str, parts: dict[str, bytes], offset: int, name: str) -> RawSample:
    images = [extension for extension in parts if extension in SHARD_EXTENSIONS]
    unknown = set(parts) - set(SHARD_EXTENSIONS) - {"cls", "soft.npy"}
    if len(images) != 1 or unknown:
        raise UserError(
            f"{name}: sample {key!r} has members {sorted(parts)}, expected one image and a label; it was not written by ppgen"
        )
    try:
        label = _class(parts["cls"]) if "cls" in parts else None
        soft = decode_soft(parts["soft.npy"]) if "soft.npy" in parts else None
    except ValueError as error:
        raise UserError(
            f"{name}: the label of sample {key!r} cannot be read ({error}); run ppgen verify on its directory"
        ) from error
    return RawSample(key, parts[images[0]], images[0], label, soft, offset)


def _class(data: bytes) -> int:
    """The class in a .cls file. Raises ValueError if the content is not a few digits."""
    if not data.strip().isdigit() or len(data) > _LONGEST_LABEL:
        raise ValueError(f"{data[:_LONGEST_LABEL]!r} is not a class number")
    return int(data)
