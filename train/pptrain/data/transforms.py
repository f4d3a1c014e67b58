"""Changes to pixels: sampling, colour, erasing.

Pure functions of images and of random choices that :mod:`pptrain.data.views` makes.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import simplejpeg
import torch
from torch import Tensor
from torch.nn import functional as F

from ppcore.errors import UserError
from ppcore.images import decode
from ppcore.shards import RawSample

_MASK_UP_TO = 64  # pixels a side; in larger images on the CPU, one slice an image is faster than a mask
GREY = 0.5


def sample(images: Tensor, matrices: Tensor, resolution: int) -> Tensor:
    """Sample uint8 (B, C, H, W) on an affine grid: float32 (B, C, R, R) in [0, 255], zero outside the image.

    Args:
        matrices: (B, 2, 3). The point (x, y) of the result, both in [-1, 1], shows the point matrices @ (x, y, 1) of the image.
        resolution: R.
    """
    line = (torch.arange(resolution, device=images.device) * 2 + 1) / resolution - 1
    across = line[:, None] * matrices[:, None, :, 0] + matrices[:, None, :, 2]  # (B, R, 2) by column
    down = line[:, None] * matrices[:, None, :, 1]  # (B, R, 2) by row
    grid = down[:, :, None] + across[:, None]  # (B, R, R, 2); F.affine_grid takes ten times as long
    return F.grid_sample(images.float(), grid, align_corners=False)


def crop_bytes(images: Tensor, boxes: Tensor, resolution: int) -> Tensor:
    """Like :func:`sample`, for boxes without rotation (zeros off the diagonal, perhaps mirrored) on the CPU.

    Every crop is resized as bytes with antialiasing, which is several times faster than sampling floats.
    """
    height, width = images.shape[-2:]
    x = torch.empty(images.shape[0], images.shape[1], resolution, resolution)
    for i, ((a, _, u), (_, d, v)) in enumerate(boxes.tolist()):
        left, right = _span(u, abs(a), width)
        top, bottom = _span(v, d, height)
        part = F.interpolate(
            images[i : i + 1, :, top:bottom, left:right],
            size=(resolution, resolution),
            mode="bilinear",
            antialias=True,
        )
        x[i] = part[0].flip(2) if a < 0 else part[0]
    return x


def recolor(x: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    """Apply one affine map of the channels to every image: clamp(matrix @ x / 255 + bias, 0, 1).

    Args:
        x: float (B, C, H, W) in [0, 255].
        matrix, bias: (B, C, C) and (B, C, 1).
    """
    if x.shape[1] == 1:
        return torch.addcmul(bias[..., None], x, matrix[..., None], value=1 / 255.0).clamp_(0.0, 1.0)
    return torch.baddbmm(bias, matrix, x.flatten(2), alpha=1 / 255.0).clamp_(0.0, 1.0).view(x.shape)


def cutout_(x: Tensor, holes: Tensor) -> Tensor:
    """Fill one square of every image with mid-grey, in place (DeVries & Taylor 2017).

    Args:
        holes: (3, B): half the side, centre y, centre x, as shares of the image's side.
    """
    height, width = x.shape[-2:]
    if x.device.type == "cpu" and height > _MASK_UP_TO:
        for image, (half, cy, cx) in zip(x, holes.T.tolist(), strict=True):
            top, bottom = max(round((cy - half) * height), 0), round((cy + half) * height)
            left, right = max(round((cx - half) * width), 0), round((cx + half) * width)
            image[:, top:bottom, left:right] = GREY
        return x
    half, cy, cx = holes[..., None]
    rows = (torch.arange(height, device=x.device) + 0.5) / height
    columns = (torch.arange(width, device=x.device) + 0.5) / width
    inside_y, inside_x = (rows - cy).abs() < half, (columns - cx).abs() < half  # (B, H), (B, W)
    return x.masked_fill_(inside_y[:, None, :, None] & inside_x[:, None, None, :], GREY)


def _span(centre: float, size: float, length: int) -> tuple[int, int]:
    """Pixels of an interval given by its centre in [-1, 1] and its share of the side; never empty."""
    low = round((centre - size + 1) / 2 * length)
    high = round((centre + size + 1) / 2 * length)
    low = min(max(low, 0), length - 1)
    return low, min(max(high, low + 1), length)


_COLOR_TYPES = {1: 0, 3: 2}  # channels -> color type of a PNG: grey, RGB


def decode_into(sample: RawSample, out: np.ndarray, where: str) -> None:
    """Decode one image into `out`, uint8 (H, W, C), C 1 or 3.

    simplejpeg decodes JPEG. The plain PNG that ppgen writes for small images is decoded by :func:`read_plain_png`: 10 microseconds for
    32x32 grey pixels, 39 with Pillow (AMD EPYC). torchvision crashes on damaged PNG files. Pillow decodes all else.

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
