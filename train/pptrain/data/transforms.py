"""Changes to pixels: sampling, colour, erasing.

Pure functions of images and of random choices that :mod:`pptrain.data.views` makes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

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


def resize(images: Tensor, spans: Tensor, sizes: Tensor, room: Sequence[int], mirror: Tensor) -> Tensor:
    """Resize one box of every image with antialiasing: uint8 (B, C, H, W) -> whole numbers as float32 (B, C, *room) in [0, 255].

    Args:
        spans: int64 (B, 2, 2), the box: [axis][first pixel, pixel after the last], the vertical axis first.
        sizes: int64 (B, 2), height and width to resize it to.
        room: height and width of the result, at least `sizes`. The box is in the upper left corner, the rest is zero.
        mirror: bool (B,), which boxes to mirror; only if they fill the room.
    """
    render = _resize_bytes if images.device.type == "cpu" else _resize_products
    return render(images, spans, sizes, room, mirror)


def _resize_bytes(
    images: Tensor, spans: Tensor, sizes: Tensor, room: Sequence[int], mirror: Tensor
) -> Tensor:
    """On the CPU: box by box as bytes, which is several times as fast as floats."""
    x = torch.zeros(*images.shape[:2], *room)
    choices = zip(spans.tolist(), sizes.tolist(), mirror.tolist(), strict=True)
    for image, out, (((top, bottom), (left, right)), size, mirrored) in zip(images, x, choices, strict=True):
        part = image[None, :, top:bottom, left:right]
        if [bottom - top, right - left] != size:
            part = F.interpolate(part, size=size, mode="bilinear", antialias=True)
        out[:, : size[0], : size[1]] = part[0].flip(2) if mirrored else part[0]
    return x


def _resize_products(
    images: Tensor, spans: Tensor, sizes: Tensor, room: Sequence[int], mirror: Tensor
) -> Tensor:
    """On a GPU: all boxes at once, as products with the weights of the pixels. At most one grey level from :func:`_resize_bytes`."""
    down, across = (
        _weights(spans[:, axis], sizes[:, axis], room[axis], images.shape[2 + axis])[:, None]
        for axis in (0, 1)
    )
    across = torch.where(mirror.view(-1, 1, 1, 1), across.flip(2), across)
    return (down @ images.float() @ across.mT).round_()


def _weights(span: Tensor, size: Tensor, room: int, length: int) -> Tensor:
    """(B, room, length): the share of every pixel of one axis in every pixel of the result, a triangle as in `F.interpolate`."""
    low, high = span[:, :1], span[:, 1:]  # (B, 1)
    scale = (high - low) / size[:, None]
    place = torch.arange(room, device=span.device) + 0.5
    pixel = torch.arange(length, device=span.device) + 0.5
    reach = scale.clamp(min=1.0)[..., None]
    weights = (1 - (pixel - (low + place * scale)[..., None]).abs() / reach).clamp_(min=0.0)
    weights *= ((pixel > low) & (pixel < high))[:, None] & (place < size[:, None])[..., None]
    return weights / weights.sum(2, keepdim=True).clamp_(min=1e-6)


def box_spans(boxes: Tensor, height: int, width: int) -> Tensor:
    """Whole pixels of boxes given as sampling matrices without rotation (B, 2, 3), perhaps mirrored: spans of :func:`resize`."""
    size = torch.stack([boxes[:, 1, 1], boxes[:, 0, 0]], 1).abs().double()  # (B, 2): height, width
    centre = boxes[:, :, 2].flip(1).double()
    length = torch.tensor([height, width])
    low = ((centre - size + 1) / 2 * length).round().clamp(min=0).minimum(length - 1)
    high = ((centre + size + 1) / 2 * length).round().maximum(low + 1).minimum(length)
    return torch.stack([low, high], 2).long()


def shrunk_sizes(boxes: Tensor, height: int, width: int, resolution: int) -> Tensor:
    """Sizes to shrink whole images to, so that their `boxes`, sampled at `resolution`, show no more than one pixel for each of theirs.

    Args:
        boxes: (B, 2, 3), sampling matrices without rotation.

    Returns:
        int64 (B, 2): height and width, not larger than before.
    """
    shown = torch.stack([boxes[:, 1, 1], boxes[:, 0, 0]], 1).abs()
    return (resolution / shown).round().minimum(torch.tensor([height, width])).long()


def to_corner(matrices: Tensor, sizes: Tensor, room: Sequence[int]) -> Tensor:
    """Sampling matrices (B, 2, 3) for images that only fill `sizes` (B, 2) of a `room`: see :func:`resize`."""
    share = (sizes / torch.tensor(room)).flip(1)[..., None]  # (B, 2, 1): width, height
    moved = matrices * share
    moved[:, :, 2:] += share - 1
    return moved


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
