"""One stored image -> its place in a batch.

JPEG is decoded by simplejpeg. The plain PNG that ppgen writes for small images is decoded here: 10 microseconds for 32x32 grey pixels,
39 with Pillow (AMD EPYC); 35 for 64x64 in colour, 74 with Pillow. torchvision crashes on damaged PNG files. Pillow decodes all else.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import simplejpeg

from ppcore.errors import UserError
from ppcore.images import decode
from ppcore.shards import RawSample

_COLOR_TYPES = {1: 0, 3: 2}  # channels -> color type of a PNG: grey, RGB


def decode_into(sample: RawSample, out: np.ndarray, where: str) -> None:
    """Decode one image into `out`, uint8 (H, W, C), C 1 or 3.

    Args:
        where: path of the sample's shard, for messages.

    Raises:
        UserError: the image is damaged or has another size.
    """
    wanted = out.shape
    try:
        if sample.extension == "png" and read_plain_png(sample.image, out):
            return
        if sample.extension == "jpg":
            # fastupsample and fastdct stay off: they change pixels by up to a few levels.
            image = simplejpeg.decode_jpeg(sample.image, "GRAY" if wanted[2] == 1 else "RGB", buffer=out)
        else:
            image = decode(sample.image, channels=wanted[2])
    except ValueError as error:
        raise UserError(
            f"sample {sample.key} of {where} cannot be decoded ({error}); run ppgen verify on the directory"
        ) from error
    if image.shape != wanted:
        raise UserError(
            f"sample {sample.key} of {where} is an image of {image.shape[1]}x{image.shape[0]} pixels, its plan says "
            f"{wanted[1]}x{wanted[0]}; run ppgen verify on the directory"
        )
    if sample.extension != "jpg":
        out[:] = image


def read_plain_png(data: bytes, out: np.ndarray) -> bool:
    """Decode a plain PNG into `out`, uint8 (H, W, C), C 1 or 3.

    A plain PNG has 8-bit grey or RGB pixels, the size of `out`, one IDAT chunk, no interlacing and no row filters.

    Returns:
        Whether the file is a plain PNG. If not, the content of `out` is undefined. Nothing is raised.
    """
    height, width, channels = out.shape
    header = struct.pack(">I4sIIBBBBB", 13, b"IHDR", width, height, 8, _COLOR_TYPES[channels], 0, 0, 0)
    if not data.startswith(b"\x89PNG\r\n\x1a\n" + header) or data[37:41] != b"IDAT":
        return False
    end = 41 + int.from_bytes(data[33:37], "big")
    if zlib.crc32(data[37:end]).to_bytes(4, "big") != data[end : end + 4]:
        return False
    size = height * (width * channels + 1)
    inflate = zlib.decompressobj()
    try:
        rows = inflate.decompress(data[41:end], size + 1)
    except zlib.error:
        return False
    if len(rows) != size or not inflate.eof:
        return False
    table = np.frombuffer(rows, dtype=np.uint8).reshape(height, width * channels + 1)
    if table[:, 0].any():  # a row filter
        return False
    out[:] = table[:, 1:].reshape(out.shape)
    return True
