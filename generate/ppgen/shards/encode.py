"""Encoding uint8 images as JPEG, PNG or WebP. Equal images give equal bytes."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

from ppgen.plan import LOSSLESS_UP_TO

Encoder = Callable[[np.ndarray], bytes]


def make_encoder(encoding: dict[str, Any]) -> Encoder:
    """A function uint8 (C, H, W), C 1 or 3, -> file bytes; pure and safe to call from several threads."""
    image_format = encoding["format"]
    if image_format == "jpg":
        return lambda image: _jpeg(image, encoding["quality"], encoding["subsampling"])
    if image_format == "png":
        return lambda image: _png(image, encoding["level"])
    return lambda image: _pillow(image, "WEBP", quality=encoding["quality"])


def _interleaved(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image.transpose(1, 2, 0))  # (C, H, W) -> (H, W, C)


def _jpeg(image: np.ndarray, quality: int, subsampling: str) -> bytes:
    grey = image.shape[0] == 1
    pixels = _interleaved(image)
    return simplejpeg.encode_jpeg(
        pixels,
        quality=quality,
        colorspace="GRAY" if grey else "RGB",
        colorsubsampling="Gray" if grey else subsampling,
    )


def _png(image: np.ndarray, level: int) -> bytes:
    """8-bit grey or RGB PNG; small ones without row filters and without Pillow, whose set-up costs twice the work."""
    channels, height, width = image.shape
    if max(height, width) > LOSSLESS_UP_TO:
        return _pillow(image, "PNG", compress_level=level)
    rows = np.zeros(
        (height, 1 + width * channels), dtype=np.uint8
    )  # each row begins with its filter, 0 = none
    rows[:, 1:] = _interleaved(image).reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    body = zlib.compress(rows.tobytes(), level)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _pillow(image: np.ndarray, name: str, **options: int) -> bytes:
    pixels = _interleaved(image)
    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if image.shape[0] == 1 else pixels).save(buffer, name, **options)
    return buffer.getvalue()
