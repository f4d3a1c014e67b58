"""Weak and strong views of a whole uint8 batch: a handful of tensor operations, on the CPU or the GPU.

Every random number comes from one CPU generator seeded by (run seed, step, stream), so a resumed run makes the same views and a GPU
makes the same choices as a CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ppcore.seeds import derive
from pptrain.settings import ViewsConfig

KINDS = ("none", "weak", "strong")
_SHIFT_UP_TO = 64
# Rotation about the grey axis in the YIQ colour space (as in torchvision's adjust_hue, but linear).
_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_FROM_YIQ = torch.linalg.inv(_TO_YIQ)


@dataclass(frozen=True)
class Views:
    """Makes views of uint8 batches (B, C, H, W) as float32 (B, C, R, R) in [0, 1].

    Args:
        resolution: R, the side the network is fed at.
        channels: of the images.
        seed: of the run.
    """

    config: ViewsConfig
    resolution: int
    channels: int
    seed: int

    @property
    def flip(self) -> bool:
        chosen = self.config.flip
        return self.channels == 3 if chosen is None else chosen

    @property
    def resized(self) -> bool:
        """Whether crops change the area (natural images) or only shift by whole pixels (small ones)."""
        return self.config.crop == "resized" or (
            self.config.crop == "auto" and self.resolution > _SHIFT_UP_TO
        )

    def make(self, images: Tensor, kind: str, *stream: str | int) -> Tensor:
        """One view of every image.

        Args:
            images: uint8 (B, C, H, W).
            kind: `none`, `weak` or `strong`.
            stream: what the random numbers belong to (a name, the step, the part of the batch).
        """
        if kind == "none" or images.shape[0] == 0:
            return self.plain(images)
        generator = torch.Generator().manual_seed(derive(self.seed, "view", kind, *stream))
        if kind == "weak" and not self.resized:
            return self._shifted(images, generator)
        if not self.resized:
            crop = self._shift(images.shape[0], generator)
        else:
            crop = self._resized_crop(images.shape[0], generator)
            if kind == "weak":
                return self._cropped(images, crop)
        x = sample(images, self._affine(crop, generator), self.resolution)
        x = recolor(x, self.config.color, generator)
        return cutout_(x, self.config.cutout, generator) if self.config.cutout > 0 else x

    def plain(self, images: Tensor) -> Tensor:
        """No augmentation: the centre crop of side R of the image resized to it."""
        x = images.float().div_(255.0)
        height, width = x.shape[-2:]
        if (height, width) == (self.resolution, self.resolution):
            return x
        return F.interpolate(x, size=(self.resolution, self.resolution), mode="bilinear", antialias=True)

    def _shifted(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Weak view of small images: whole-pixel shift with a zero border and a flip, by one gather and no interpolation."""
        batch = images.shape[0]
        reach = round(self.config.shift * self.resolution)
        offset = torch.randint(0, 2 * reach + 1, (2, batch), generator=generator).to(images.device)
        flip = torch.rand(batch, generator=generator).to(images.device) < 0.5
        if images.shape[-1] != self.resolution or images.shape[-2] != self.resolution:
            images = self.plain(images).mul_(255.0).round_().to(torch.uint8)
        padded = F.pad(images, (reach,) * 4)
        windows = padded.unfold(2, self.resolution, 1).unfold(3, self.resolution, 1)
        x = windows[torch.arange(batch, device=images.device), :, offset[0], offset[1]]  # (B, C, R, R)
        x = x.float().div_(255.0)
        return torch.where(flip.view(-1, 1, 1, 1), x.flip(3), x) if self.flip else x

    def _cropped(self, images: Tensor, crop: Tensor) -> Tensor:
        """Weak view of large images: float32 (B, C, R, R). On the CPU each crop is resized as uint8, several times faster than
        sampling floats, and antialiased."""
        if images.device.type != "cpu":
            return sample(images, crop, self.resolution).div_(255.0)
        height, width = images.shape[-2:]
        x = torch.empty(images.shape[0], images.shape[1], self.resolution, self.resolution)
        for i, ((a, _, u), (_, d, v)) in enumerate(crop.tolist()):
            left, right = _span(u, abs(a), width)
            top, bottom = _span(v, d, height)
            part = F.interpolate(
                images[i : i + 1, :, top:bottom, left:right],
                size=(self.resolution, self.resolution),
                mode="bilinear",
                antialias=True,
            )
            x[i] = part[0].flip(2) if a < 0 else part[0]
        return x.div_(255.0)

    def _shift(self, batch: int, generator: torch.Generator) -> Tensor:
        """(B, 2, 3) sampling matrices: shift and flip."""
        move = (torch.rand(batch, 2, generator=generator) * 2 - 1) * 2 * self.config.shift
        return self._matrices(torch.ones(batch, 2), move, generator)

    def _resized_crop(self, batch: int, generator: torch.Generator) -> Tensor:
        """(B, 2, 3) sampling matrices of random resized crops, area in [min_area, 1], aspect ratio in [3/4, 4/3]."""
        area = self.config.min_area + torch.rand(batch, generator=generator) * (1 - self.config.min_area)
        ratio = torch.exp((torch.rand(batch, generator=generator) * 2 - 1) * math.log(4 / 3))
        size = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], 1).clamp_(
            max=1.0
        )  # (width, height)
        move = (torch.rand(batch, 2, generator=generator) * 2 - 1) * (1 - size)
        return self._matrices(size, move, generator)

    def _matrices(self, size: Tensor, move: Tensor, generator: torch.Generator) -> Tensor:
        """Diagonal scale and shift, mirrored for half of the batch when flips are on."""
        mirror = torch.rand(size.shape[0], generator=generator) < 0.5
        matrices = torch.zeros(size.shape[0], 2, 3)
        sign = torch.where(mirror & self.flip, -1.0, 1.0)
        matrices[:, 0, 0], matrices[:, 1, 1] = size[:, 0] * sign, size[:, 1]
        matrices[:, :, 2] = move
        return matrices

    def _affine(self, crop: Tensor, generator: torch.Generator) -> Tensor:
        """Compose the crop with a random rotation, shear and zoom about the crop's centre: (B, 2, 3)."""
        batch = crop.shape[0]
        draw = torch.rand(4, batch, generator=generator) * 2 - 1
        angle = draw[0] * math.radians(self.config.rotate)
        shear_x = torch.tan(draw[1] * math.radians(self.config.shear))
        shear_y = torch.tan(draw[2] * math.radians(self.config.shear))
        zoom = torch.exp2(draw[3] * self.config.zoom)
        cos, sin = torch.cos(angle), torch.sin(angle)
        turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)  # (B, 2, 2)
        ones = torch.ones(batch)
        slant = torch.stack([torch.stack([ones, shear_x], 1), torch.stack([shear_y, ones], 1)], 1)
        inner = turn @ slant * zoom.view(-1, 1, 1)
        return torch.cat([crop[:, :, :2] @ inner, crop[:, :, 2:]], 2)


def sample(images: Tensor, matrices: Tensor, resolution: int) -> Tensor:
    """uint8 (B, C, H, W) read at `matrices` (B, 2, 3): float32 (B, C, R, R) in [0, 255], zero outside.

    A point (x, y) of the result, both in [-1, 1], is read at matrices @ (x, y, 1).
    """
    matrices = matrices.to(images.device)
    line = (torch.arange(resolution, device=images.device) * 2 + 1) / resolution - 1
    across = line[:, None] * matrices[:, None, :, 0] + matrices[:, None, :, 2]  # (B, R, 2) by column
    down = line[:, None] * matrices[:, None, :, 1]  # (B, R, 2) by row
    grid = down[:, :, None] + across[:, None]  # (B, R, R, 2); F.affine_grid takes ten times as long
    return F.grid_sample(images.float(), grid, align_corners=False)


def recolor(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Brightness, contrast, saturation and hue as ONE affine map of the channels an image.

    Args:
        x: float (B, C, H, W) in [0, 255], C 1 or 3.

    Returns:
        The same in [0, 1], clamped.
    """
    batch, channels = x.shape[:2]
    draw = torch.rand(4, batch, generator=generator) * 2 - 1
    gain = 1.0 + draw[0] * strength  # contrast about mid-grey
    shift = draw[1] * strength * 0.5 + 0.5 * (1.0 - gain)  # brightness
    gain = gain / 255.0
    if channels == 1:
        gain, shift = gain.to(x.device), shift.to(x.device)
        return torch.addcmul(shift.view(-1, 1, 1, 1), x, gain.view(-1, 1, 1, 1)).clamp_(0.0, 1.0)
    chroma = 1.0 + draw[2] * strength
    angle = draw[3] * strength * (math.pi / 4)
    turn = torch.zeros(batch, 3, 3)
    turn[:, 0, 0] = 1.0
    turn[:, 1, 1], turn[:, 1, 2] = chroma * torch.cos(angle), -chroma * torch.sin(angle)
    turn[:, 2, 1], turn[:, 2, 2] = chroma * torch.sin(angle), chroma * torch.cos(angle)
    matrix = (_FROM_YIQ @ turn @ _TO_YIQ * gain.view(-1, 1, 1)).to(x.device)  # (B, 3, 3)
    bias = shift.view(-1, 1, 1).expand(batch, 3, 1).to(x.device)
    return torch.baddbmm(bias, matrix, x.flatten(2)).clamp_(0.0, 1.0).view(x.shape)


def cutout_(x: Tensor, largest: float, generator: torch.Generator) -> Tensor:
    """Erase one square an image, side uniform up to `largest` of the image's, in place, with mid-grey (DeVries & Taylor 2017)."""
    batch, _, height, width = x.shape
    draw = torch.rand(3, batch, generator=generator)
    half = draw[0] * largest * 0.5
    if x.device.type == "cpu" and height > _SHIFT_UP_TO:  # a few slices cost less than a mask of every pixel
        for image, h, cy, cx in zip(x, half.tolist(), draw[1].tolist(), draw[2].tolist(), strict=True):
            top, bottom = max(round((cy - h) * height), 0), round((cy + h) * height)
            left, right = max(round((cx - h) * width), 0), round((cx + h) * width)
            image[:, top:bottom, left:right] = 0.5
        return x
    half, cy, cx = half.to(x.device), draw[1].to(x.device), draw[2].to(x.device)
    rows = (torch.arange(height, device=x.device) + 0.5) / height
    columns = (torch.arange(width, device=x.device) + 0.5) / width
    inside_y = (rows[None] - cy[:, None]).abs() < half[:, None]  # (B, H)
    inside_x = (columns[None] - cx[:, None]).abs() < half[:, None]  # (B, W)
    return x.masked_fill_(inside_y[:, None, :, None] & inside_x[:, None, None, :], 0.5)


def _span(centre: float, size: float, length: int) -> tuple[int, int]:
    """Pixels of an interval given by its centre in [-1, 1] and its share of the side; never empty."""
    low = round((centre - size + 1) / 2 * length)
    high = round((centre + size + 1) / 2 * length)
    low = min(max(low, 0), length - 1)
    return low, min(max(high, low + 1), length)
