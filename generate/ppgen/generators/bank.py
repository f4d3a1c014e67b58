"""A licensed bank of labelled images in the place of a generator: it answers a condition with a real image drawn by class.

Useful in itself where such a bank is all that is left of the source, and as the yardstick that separates a method from the quality of a
generator.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ppcore.errors import UserError
from ppcore.seeds import numpy_rng
from ppcore.targets import ImageSet, fit, read_files
from ppgen.generators.parts.labels import check_condition
from ppgen.sources import Generator, Source, read_options

_HASHED = 1000  # images, evenly spread, whose pixels identify the bank beside all names and labels


@dataclass(frozen=True)
class BankOptions:
    """Sampling options.

    Attributes:
        resolution: side in pixels; 0 is the shorter side of the first image.
        channels: 1 or 3; 0 is the first image's.
        licence: of the images, for the dataset card.
    """

    resolution: int = 0
    channels: int = 0
    licence: str = "unknown"


class ImageBank:
    """See :class:`ppgen.sources.Generator`: class y ~ condition, then an image of class y, both from the sample's own seed."""

    revision = "local"

    def __init__(self, images: ImageSet, class_names: tuple[str, ...], options: BankOptions) -> None:
        first = images.image(0)
        self.class_names, self.num_classes = class_names, len(class_names)
        self.resolution = options.resolution or min(first.shape[:2])
        self.channels = options.channels or first.shape[2]
        self.licence = options.licence
        self._images = images
        self._members = [np.flatnonzero(images.labels == label) for label in range(self.num_classes)]

    def sample(self, condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        """See :meth:`ppgen.sources.Generator.sample`. Raises UserError for a class without images, or a damaged image."""
        chosen = self._choose(condition, seeds)
        return torch.stack([fit(self._images.image(i), self.resolution, self.channels) for i in chosen])

    def origins(self, condition: torch.Tensor, seeds: torch.Tensor) -> list[str]:
        """Names of the images that :meth:`sample` returns for the same arguments."""
        return [self._images.ids[i] for i in self._choose(condition, seeds)]

    def _choose(self, condition: torch.Tensor, seeds: torch.Tensor) -> list[int]:
        check_condition(condition, seeds, self.num_classes)
        rows = condition.double().cpu().numpy().cumsum(axis=1)  # (B, K)
        chosen = []
        for row, seed in zip(rows, seeds.tolist(), strict=True):
            rng = numpy_rng(int(seed), "bank")
            label = int(np.searchsorted(row, rng.random() * row[-1], side="right"))
            members = self._members[min(label, self.num_classes - 1)]
            if not len(members):
                raise UserError(
                    f"the bank has no image of class {label} ({self.class_names[label]}); leave it out with --classes, or add images"
                )
            chosen.append(int(members[rng.integers(len(members))]))
        return chosen

    def describe(self) -> dict[str, Any]:
        """See :meth:`ppgen.sources.Generator.describe`."""
        digest = hashlib.sha256("\0".join(self._images.ids).encode())
        digest.update(self._images.labels.astype("<i8").tobytes())
        for i in np.unique(np.linspace(0, len(self._images) - 1, _HASHED).astype(int)):
            digest.update(self._images.image(int(i)).tobytes())
        return {
            "family": "bank",
            "images": len(self._images),
            "images_sha256": digest.hexdigest(),
            "sampling": {"resolution": self.resolution, "channels": self.channels},
        }


def load(source: Source, device: torch.device, dtype: torch.dtype) -> Generator:
    """A bank from whatever layout targets are read from; of split data its training images alone.

    Raises:
        UserError: no images, or options that do not fit.
    """
    options = read_options(BankOptions, source)
    if options.channels not in (0, 1, 3) or options.resolution < 0:
        raise UserError(
            f"--set channels={options.channels} or resolution={options.resolution} is no image; expected 1 or 3, and pixels"
        )
    found = read_files(source.location)
    if not len(found.train):
        raise UserError(f"{source.spec} holds no images; give an image folder, parquet or tars with labels")
    return ImageBank(found.train, found.classes, options)
