"""New keys for the samples of a shard tar, without touching anything else in it."""

from __future__ import annotations

from ppcore.shards import sample_key

_BLOCK = 512
_NAME, _SIZE, _CHECKSUM = slice(0, 100), slice(124, 136), slice(148, 156)


def rekey(tar: bytes, shift: int) -> bytes:
    """The tar with every key, a zero-padded number, moved on by `shift`.

    Keys keep their width, so offsets, sizes and padding stay what they were; undone by the opposite shift.

    Args:
        tar: as :mod:`ppgen.shards.pack` writes it, already checked against its commit record.
    """
    data = bytearray(tar)
    position = 0
    while position + _BLOCK <= len(data):
        header = data[position : position + _BLOCK]
        if not any(header):
            break
        key, _, extension = header[_NAME].rstrip(b"\0").decode("ascii").partition(".")
        header[_NAME] = f"{sample_key(int(key) + shift)}.{extension}".encode().ljust(100, b"\0")
        header[_CHECKSUM] = b" " * 8  # the checksum counts itself as blanks
        header[_CHECKSUM] = b"%06o\0 " % sum(header)
        data[position : position + _BLOCK] = header
        size = int(header[_SIZE].rstrip(b"\0 "), 8)
        position += _BLOCK + size + -size % _BLOCK
    return bytes(data)
