"""The plain kind of PNG that ppgen writes for small images, read several times faster than Pillow opens one."""

from __future__ import annotations

import struct
import zlib

import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOR_TYPES = {1: 0, 3: 2}  # channels -> grey, RGB
_HEADER_END = 33
_CHUNK = 12  # bytes around a chunk's data: length, type, checksum


def read_plain_png(data: bytes, out: np.ndarray) -> bool:
    """Decode into `out`, uint8 (H, W, C), C 1 or 3, when the file is 8-bit grey or RGB of that size, not interlaced, one IDAT chunk,
    no row filters.

    Returns:
        False, with `out` in any state, for every other file; nothing is raised.
    """
    height, width, channels = out.shape
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOR_TYPES[channels], 0, 0, 0)
    if data[:8] != _SIGNATURE or data[12:16] != b"IHDR" or data[16:29] != header:
        return False
    length = int.from_bytes(data[_HEADER_END : _HEADER_END + 4], "big")
    body = data[_HEADER_END + 8 : _HEADER_END + 8 + length]
    if data[_HEADER_END + 4 : _HEADER_END + 8] != b"IDAT" or len(body) != length:
        return False
    checksum = data[_HEADER_END + 8 + length : _HEADER_END + _CHUNK + length]
    if zlib.crc32(body, zlib.crc32(b"IDAT")).to_bytes(4, "big") != checksum:
        return False
    size = height * (width * channels + 1)
    inflate = zlib.decompressobj()
    try:
        rows = inflate.decompress(body, size + 1)
    except zlib.error:
        return False
    if len(rows) != size or not inflate.eof:
        return False
    table = np.frombuffer(rows, dtype=np.uint8).reshape(height, width * channels + 1)
    if table[:, 0].any():
        return False
    out[:] = table[:, 1:].reshape(out.shape)
    return True
