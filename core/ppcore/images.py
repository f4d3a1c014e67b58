"""Encoded image bytes -> uint8 arrays, with the size checked before anything is decoded."""

from __future__ import annotations

import io
import warnings

import numpy as np
import simplejpeg
from PIL import Image

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif", "ppm", "pgm")
SHARD_EXTENSIONS = ("jpg", "png", "webp")
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
MAX_SIDE = 16384


def decode(data: bytes, *, channels: int | None = None, max_side: int = MAX_SIDE) -> np.ndarray:
    """Decode one image to uint8 (H, W, C).

    Args:
        data: the encoded file.
        channels: 1 or 3; None keeps grey images grey and makes all else RGB.
        max_side: larger images are refused before decoding, so that a decompression bomb costs nothing.

    Raises:
        ValueError: not an image, damaged, or larger than `max_side`.
    """
    if data[:3] == b"\xff\xd8\xff":
        image = _decode_jpeg(data, channels, max_side)
        if image is not None:
            return image
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image_file:
                if max(image_file.size) > max_side:
                    raise ValueError(f"the image is {image_file.size}, larger than {max_side} pixels a side")
                mode = {1: "L", 3: "RGB", None: "L" if image_file.mode in ("1", "L", "I;16") else "RGB"}[
                    channels
                ]
                array = np.asarray(image_file.convert(mode))
        except (OSError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ValueError(f"not a readable image ({error})") from error
    return array[:, :, None] if array.ndim == 2 else array


def _decode_jpeg(data: bytes, channels: int | None, max_side: int) -> np.ndarray | None:
    """The fast path; None for the JPEG variants simplejpeg leaves to Pillow (CMYK)."""
    height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    if max(height, width) > max_side:
        raise ValueError(f"the image is {width}x{height}, larger than {max_side} pixels a side")
    if colorspace not in ("Gray", "YCbCr", "RGB"):
        return None
    wanted = channels or (1 if colorspace == "Gray" else 3)
    return simplejpeg.decode_jpeg(data, colorspace="GRAY" if wanted == 1 else "RGB")
