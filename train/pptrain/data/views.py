"""Weak and strong views (augmentations) of a whole uint8 batch, on the CPU or the GPU.

All random numbers come from one CPU generator, seeded by the run's seed and a :class:`ViewKey`. So a resumed run makes the same
views, and a GPU makes the same random choices as a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from ppcore.seeds import derive
from pptrain.config import ViewsConfig
from pptrain.data.transforms import box_spans, cutout_, recolor, resize, sample, shrunk_sizes, to_corner

_SHIFT_UP_TO = 64
_PART_PIXELS = (
    1 << 19
)  # pixels of a channel that the CPU renders at once: 1.8 times as fast at 224 pixels as whole batches
# Rotation about the grey axis in the YIQ colour space (as in torchvision's adjust_hue, but linear).
_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_FROM_YIQ = torch.linalg.inv(_TO_YIQ)


class ViewKind(StrEnum):
    """How much a view may change an image."""

    NONE = "none"
    WEAK = "weak"
    STRONG = "strong"


@dataclass(frozen=True)
class ViewKey:
    """Identifies one view; with the run's seed and the kind of view it decides all random numbers of the view.

    Attributes:
        stream: name of the view among the views of a step.
        step: number of the (micro-)batch.
        group: number of the part of the batch (see `data.groups`).
    """

    stream: str
    step: int
    group: int = 0


@dataclass(frozen=True)
class Views:
    """Makes views of uint8 batches (B, C, H, W) as float32 (B, C, R, R) in [0, 1].

    Args:
        resolution: R, the side of the network's input in pixels.
        channels: channels of the network's input.
        seed: seed of the run.
        resize: images are resized to this before an evaluation crops their centre of side R; 0 means R. Views without a random area
            show that centre, too.
    """

    config: ViewsConfig
    resolution: int
    channels: int
    seed: int
    resize: int = 0

    @property
    def flip(self) -> bool:
        chosen = self.config.flip
        return self.channels == 3 if chosen is None else chosen

    @property
    def resized(self) -> bool:
        """Whether crops change the area (natural images); otherwise they shift by whole pixels (small images)."""
        return self.config.crop == "resized" or (
            self.config.crop == "auto" and self.resolution > _SHIFT_UP_TO
        )

    def make(self, images: Tensor, kind: ViewKind, key: ViewKey) -> Tensor:
        """One view of every image: uint8 (B, C, H, W) -> float32 (B, C, R, R) in [0, 1]; a function of the arguments alone.

        A network for RGB gets grey images in three equal channels.
        """
        batch = images.shape[0]
        if images.shape[1] == 1 and self.channels == 3:
            images = images.expand(-1, 3, -1, -1).contiguous()
        if kind is ViewKind.NONE or batch == 0:
            return self.plain(images)
        seed = derive(self.seed, "view", kind.value, key.stream, key.step, key.group)
        generator = torch.Generator().manual_seed(seed)
        if kind is ViewKind.WEAK and not self.resized:
            return self._shifted(images, generator)
        boxes = self._resized_crop(batch, generator) if self.resized else self._shift(images, generator)
        if kind is ViewKind.WEAK:
            spans = box_spans(boxes, *images.shape[2:])
            return self._in_parts(self._render_weak, images, spans, boxes[:, 0, 0] < 0)
        matrices = self._affine(boxes, generator)
        matrix, bias = self._color(batch, generator)
        holes = torch.rand(3, batch, generator=generator)
        holes[0] *= 0.5 * self.config.cutout
        # Images larger than the network's input are shrunk with antialiasing first, because sampling has none.
        height, width = images.shape[2:]
        sizes = shrunk_sizes(boxes, height, width, self.resolution)
        room = sizes.amax(0).tolist() if max(height, width) > self.resolution else []
        if room:
            matrices = to_corner(matrices, sizes, room)
        whole = torch.tensor([[0, height], [0, width]]).expand(batch, 2, 2)
        render = partial(self._render_strong, room)
        return self._in_parts(render, images, whole, sizes, matrices, matrix, bias, holes.T)

    def _in_parts(self, render: Callable[..., Tensor], images: Tensor, *choices: Tensor) -> Tensor:
        """`render` the batch: a GPU renders it at once, the CPU in parts that stay in its cache."""
        if images.device.type != "cpu":
            return render(images, *(c.to(images.device, non_blocking=True) for c in choices))
        size = max(1, _PART_PIXELS // self.resolution**2)
        if images.shape[0] <= size:
            return render(images, *choices)
        x = torch.empty(images.shape[0], images.shape[1], self.resolution, self.resolution)
        for first in range(0, images.shape[0], size):
            part = slice(first, first + size)
            x[part] = render(images[part], *(c[part] for c in choices))
        return x

    def _render_weak(self, images: Tensor, spans: Tensor, mirror: Tensor) -> Tensor:
        room = [self.resolution, self.resolution]
        return resize(images, spans, torch.full_like(spans[:, 0], self.resolution), room, mirror).div_(255.0)

    def _render_strong(
        self,
        room: Sequence[int],
        images: Tensor,
        spans: Tensor,
        sizes: Tensor,
        matrices: Tensor,
        matrix: Tensor,
        bias: Tensor,
        holes: Tensor,
    ) -> Tensor:
        if room:
            images = resize(images, spans, sizes, room, torch.zeros_like(sizes[:, 0], dtype=torch.bool))
        return cutout_(recolor(sample(images, matrices, self.resolution), matrix, bias), holes.T)

    def plain(self, images: Tensor) -> Tensor:
        """The images without augmentation, resized and cropped as for an evaluation; images of side R stay as they are."""
        x, side = images.float().div_(255.0), self._uncropped(images)
        if x.shape[-2:] != (side, side):
            x = F.interpolate(x, size=(side, side), mode="bilinear", antialias=True)
        edge = (side - self.resolution) // 2
        return x[:, :, edge : edge + self.resolution, edge : edge + self.resolution]

    def _uncropped(self, images: Tensor) -> int:
        """Side of the images before the centre of side R is cropped."""
        same = images.shape[-2:] == (self.resolution, self.resolution)
        return self.resolution if same else self.resize or self.resolution

    def _shifted(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Weak view of small images: whole-pixel shift with a zero border and a flip, by one gather and no interpolation."""
        batch = images.shape[0]
        reach = round(self.config.shift * self.resolution)
        offset = torch.randint(0, 2 * reach + 1, (2, batch), generator=generator)
        flip = torch.rand(batch, generator=generator)
        offset, flip = (choice.to(images.device, non_blocking=True) for choice in (offset, flip))
        if images.shape[-1] != self.resolution or images.shape[-2] != self.resolution:
            images = self.plain(images).mul_(255.0).round_().to(torch.uint8)
        padded = F.pad(images, (reach,) * 4)
        windows = padded.unfold(2, self.resolution, 1).unfold(3, self.resolution, 1)
        x = windows[torch.arange(batch, device=images.device), :, offset[0], offset[1]]  # (B, C, R, R)
        x = x.float().div_(255.0)
        return torch.where(flip.view(-1, 1, 1, 1) < 0.5, x.flip(3), x) if self.flip else x

    def _shift(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """(B, 2, 3) sampling matrices: shift and flip."""
        batch, share = images.shape[0], self.resolution / self._uncropped(images)
        move = (torch.rand(batch, 2, generator=generator) * 2 - 1) * 2 * self.config.shift
        return self._matrices(torch.full((batch, 2), share), move * share, generator)

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

    def _color(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(B, C, C) matrices and (B, C, 1) offsets: brightness, contrast, saturation and hue as one map of the channels."""
        strength = self.config.color
        draw = torch.rand(4, batch, generator=generator) * 2 - 1
        gain = 1.0 + draw[0] * strength  # contrast about mid-grey
        bias = (draw[1] * strength * 0.5 + 0.5 * (1.0 - gain)).view(-1, 1, 1)  # brightness
        if self.channels == 1:
            return gain.view(-1, 1, 1), bias
        chroma = 1.0 + draw[2] * strength
        angle = draw[3] * strength * (math.pi / 4)
        turn = torch.zeros(batch, 3, 3)
        turn[:, 0, 0] = 1.0
        turn[:, 1, 1], turn[:, 1, 2] = chroma * torch.cos(angle), -chroma * torch.sin(angle)
        turn[:, 2, 1], turn[:, 2, 2] = chroma * torch.sin(angle), chroma * torch.cos(angle)
        return _FROM_YIQ @ turn @ _TO_YIQ * gain.view(-1, 1, 1), bias.expand(batch, 3, 1)
