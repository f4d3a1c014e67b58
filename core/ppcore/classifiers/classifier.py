"""A classifier: its description (config.json), and the network with its preprocessing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field
from torch import nn
from torch.nn import functional as F

from ppcore.errors import UserError
from ppcore.images import MAX_SIDE
from ppcore.storage import read_json

MAX_CLASSES = (
    100_000  # the head is allocated before the weights are read, and config.json may come from anybody
)


@dataclass(frozen=True)
class ClassifierSpec:
    """How to build a classifier and how to prepare its input; the content of config.json.

    Attributes:
        arch: name for :func:`ppcore.classifiers.build`.
        class_names: the K class names.
        class_ids: K stable identifiers such as WordNet ids; may be empty.
        channels: input channels of the network, 1 or 3.
        resolution: side of its input in pixels.
        resize: the shorter side is resized to this before the centre crop of `resolution`; 0 means `resolution`.
        mean, std: for each channel, of images scaled to [0, 1].
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    arch: Annotated[str, Field(max_length=200)]
    class_names: Annotated[tuple[str, ...], Field(min_length=1, max_length=MAX_CLASSES)]
    channels: Annotated[int, Field(ge=1, le=3)]
    resolution: Annotated[int, Field(ge=1, le=MAX_SIDE)]
    resize: Annotated[int, Field(ge=0, le=MAX_SIDE)] = 0
    mean: Annotated[tuple[float, ...], Field(min_length=1, max_length=3)] = (0.5,)
    std: Annotated[tuple[float, ...], Field(min_length=1, max_length=3)] = (0.5,)
    class_ids: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @classmethod
    def read(cls, path: Path) -> ClassifierSpec:
        """Read a config.json. Raises UserError if it does not describe a classifier."""
        try:
            return read_json(path, cls)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path} does not describe a classifier ({error}); expected the config.json that pptrain writes"
            ) from error


HEADS = ("fc", "classifier", "head", "heads")
"""Names of the classification head in torchvision and timm."""


class Classifier(nn.Module):
    """A network with its preprocessing: takes uint8 images of any size, returns float32 logits."""

    _mean: torch.Tensor
    _std: torch.Tensor

    def __init__(self, net: nn.Module, spec: ClassifierSpec) -> None:
        super().__init__()
        self.net, self.spec = net, spec
        self.register_buffer("_mean", torch.tensor(spec.mean).view(1, -1, 1, 1) * 255.0, persistent=False)
        self.register_buffer("_std", torch.tensor(spec.std).view(1, -1, 1, 1) * 255.0, persistent=False)

    def preprocess(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, C, H, W) -> normalised float32 (B, C', R, R): channels converted, resized, centre cropped."""
        spec = self.spec
        x = images.float()
        if x.shape[1] != spec.channels:
            x = to_grey(x) if spec.channels == 1 else x.expand(-1, 3, -1, -1)
        side = spec.resize or spec.resolution
        height, width = x.shape[-2:]
        if min(height, width) != side or side != spec.resolution:
            scale = side / min(height, width)
            size = (max(side, round(height * scale)), max(side, round(width * scale)))
            x = F.interpolate(x, size=size, mode="bicubic", antialias=True).clamp_(0, 255)
        top, left = (x.shape[-2] - spec.resolution) // 2, (x.shape[-1] - spec.resolution) // 2
        x = x[..., top : top + spec.resolution, left : left + spec.resolution]
        return (x - self._mean) / self._std

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, C, H, W) -> float32 logits (B, K)."""
        return self.net(self.preprocess(images)).float()

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (B, C, H, W) -> float32 penultimate features (B, D): the input of the last linear layer."""
        return self.embed(images)[0]

    def embed(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 (B, C, H, W) -> (:meth:`features`, :meth:`forward`) in one pass."""
        _, head = find_head(self.net)
        caught: list[torch.Tensor] = []
        handle = head.register_forward_pre_hook(lambda _module, inputs: caught.append(inputs[0]))
        try:
            logits = self.net(self.preprocess(images))
        finally:
            handle.remove()
        return caught[-1].flatten(1).float(), logits.float()


def to_grey(images: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) -> (B, 1, H, W), ITU-R 601 luma like Pillow's `L`."""
    weights = images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)


def find_head(net: nn.Module) -> tuple[str, nn.Linear]:
    """(qualified name, module) of the last linear layer, the classification head.

    Raises:
        UserError: the network has none.
    """
    linear = [(name, module) for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    named = [(name, module) for name, module in linear if name.split(".")[0] in HEADS]
    if not linear:
        raise UserError(
            f"{type(net).__name__} has no linear layer to serve as classification head; end it in nn.Linear"
        )
    return (named or linear)[-1]


def soft_labels(logits: torch.Tensor, temperature: float, top_k: int | None) -> torch.Tensor:
    """softmax(logits / temperature), cut to the `top_k` largest entries and renormalised: float64 (N, K)."""
    probabilities = (logits.double() / temperature).softmax(dim=1)
    if top_k is None or top_k >= logits.shape[1]:
        return probabilities
    values, classes = probabilities.topk(top_k, dim=1)
    kept = torch.zeros_like(probabilities).scatter_(1, classes, values)
    return kept / kept.sum(dim=1, keepdim=True)
