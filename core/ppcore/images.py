"""Decodes images to uint8 arrays, checking their size first, and prepares them for a network."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

# Pillow warns of odd metadata. For all threads, because warnings.catch_warnings is not safe in threads that decode.
warnings.filterwarnings("ignore", module=r"PIL\.")

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif", "ppm", "pgm")
SHARD_EXTENSIONS = ("jpg", "png", "webp")
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
MAX_SIDE = 16384
_MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 1 << 27  # Pillow's limit of 89 million
_GREY = ("1", "L", "LA", "La")
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N")
_ORIENTATION = 0x0112  # Exif tag
_EXIF, _EXIF_WITHIN = b"Exif\0\0", 1 << 16  # the Exif segment is the first or second of a JPEG

Interpolation = Literal["bilinear", "bicubic"]
CropMode = Literal["center", "squash", "border"]


class Preparation(NamedTuple):
    """How an image becomes the input of a network: pixel for pixel as torchvision and timm prepare images of Pillow.

    Attributes:
        resolution: R, the side of the input in pixels.
        channels: of the input, 1 or 3.
        resize: side in pixels that the image is resized to before the centre of side R is cut out; 0 means R.
        interpolation: always antialiased.
        crop_mode: which side gets the length `resize`: the shorter one (`center`), both (`squash`, which changes the proportions) or
            the longer one (`border`).
        fill: colour around a resized image that is smaller than R, one value for each channel.
    """

    resolution: int
    channels: int
    resize: int = 0
    interpolation: Interpolation = "bicubic"
    crop_mode: CropMode = "center"
    fill: tuple[int, ...] = (0, 0, 0)

    def place(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """((height, width) to resize an image to, (top, left) of the R x R cut in the resized image, negative outside of it)."""
        side = self.resize or self.resolution
        size = side, side
        if self.crop_mode == "center":
            shorter = min(height, width)
            size = int(side * height / shorter), int(side * width / shorter)
        elif self.crop_mode == "border":
            ratio = max(height, width) / side
            size = round(height / ratio), round(width / ratio)
        return size, (self._offset(size[0]), self._offset(size[1]))

    def _offset(self, length: int) -> int:
        spare = length - self.resolution
        return round(spare / 2) if spare >= 0 else -(-spare // 2)

    def fit(self, image: np.ndarray) -> np.ndarray:
        """uint8 (H, W, C), C 1 or 3 -> uint8 (`channels`, R, R)."""
        picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
        picture = picture.convert("L" if self.channels == 1 else "RGB")
        (height, width), (top, left) = self.place(picture.height, picture.width)
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling[self.interpolation.upper()])
        fill = self.fill[0] if self.channels == 1 else self.fill
        cut = Image.new(picture.mode, (self.resolution, self.resolution), fill)
        cut.paste(picture, (-left, -top))
        return np.array(cut).reshape(self.resolution, self.resolution, self.channels).transpose(2, 0, 1)


# Errors of Pillow's readers for damaged files.
_DAMAGED = (
    OSError,
    SyntaxError,
    EOFError,
    struct.error,
    zlib.error,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
)


def decode(data: bytes, *, channels: int | None = None, max_side: int = MAX_SIDE) -> np.ndarray:
    """Decode one image to uint8 (H, W, C) as a viewer shows it: rotated by its Exif tag, transparent pixels on white.

    The first frame of an animation; the upper 8 of 16 bits; CMYK and palettes as RGB. The format is recognised by the content.

    Args:
        data: the encoded file.
        channels: 1 or 3; None keeps grey images grey and converts all others to RGB.
        max_side: larger images are refused before decoding, so that a decompression bomb does no harm.

    Raises:
        ValueError: not an image, damaged, 32 bits a pixel, or larger than `max_side` or 89 million pixels.
    """
    if not data:
        raise ValueError("the file is empty")
    if data[:3] == b"\xff\xd8\xff":
        image = _decode_jpeg(data, channels, max_side)
        if image is not None:
            return _turn_jpeg(image, data)
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image_file:
            _check_size(*image_file.size, max_side)
            array = _turn(_pixels(image_file, channels), image_file)
    except UnidentifiedImageError as error:
        raise ValueError(f"not an image of a known format; it begins with {data[:8]!r}") from error
    except (*_DAMAGED, Image.DecompressionBombError) as error:
        raise ValueError(f"not a readable image ({error})") from error
    return array[:, :, None] if array.ndim == 2 else array


def _check_size(width: int, height: int, max_side: int) -> None:
    if max(width, height) > max_side or width * height > _MAX_PIXELS:
        raise ValueError(
            f"the image is {width}x{height}, larger than {max_side} pixels a side or {_MAX_PIXELS} pixels in all"
        )


def _pixels(picture: Image.Image, channels: int | None) -> np.ndarray:
    """uint8 (H, W) or (H, W, 3) of an opened image. Raises ValueError for 32 bits a pixel, whose range is unknown."""
    if picture.mode in _DEEP or (picture.mode == "I" and picture.format in ("PNG", "PPM")):
        picture.load()
        deep = np.asarray(picture).astype(np.uint32)  # Pillow's conversion would clip at 255
        picture, grey = Image.fromarray((deep >> 8).clip(0, 255).astype(np.uint8)), True
    elif picture.mode in ("I", "F"):
        raise ValueError(
            "it has 32 bits a pixel, and which value is white is unknown; store it with 8 or 16 bits"
        )
    else:
        grey = picture.mode in _GREY
    if picture.has_transparency_data:
        clear = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    wanted = channels or (1 if grey else 3)
    return np.asarray(picture.convert("L" if wanted == 1 else "RGB"))


def _decode_jpeg(data: bytes, channels: int | None, max_side: int) -> np.ndarray | None:
    """Decode a JPEG fast; None for variants that simplejpeg cannot decode (CMYK, extra bytes between segments)."""
    height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    _check_size(width, height, max_side)
    if colorspace not in ("Gray", "YCbCr", "RGB"):
        return None
    wanted = channels or (1 if colorspace == "Gray" else 3)
    try:
        return simplejpeg.decode_jpeg(data, colorspace="GRAY" if wanted == 1 else "RGB")
    except ValueError as error:
        if "extraneous bytes" in str(error):  # harmless and common in photographs from the web
            return None
        raise


_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: np.rot90,
}
"""Exif orientation -> function that makes an (H, W, C) image upright."""


def _turn(image: np.ndarray, picture: Image.Image) -> np.ndarray:
    """Rotate pixels by the Exif tag of their file. A damaged tag is ignored."""
    try:
        turn = _TURNS.get(picture.getexif().get(_ORIENTATION, 1))
    except (*_DAMAGED, ValueError):
        return image
    return image if turn is None else np.ascontiguousarray(turn(image))


def _turn_jpeg(image: np.ndarray, data: bytes) -> np.ndarray:
    if data.find(_EXIF, 0, _EXIF_WITHIN) < 0:
        return image
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            return _turn(image, picture)
    except (*_DAMAGED, ValueError):
        return image
