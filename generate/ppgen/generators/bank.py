"""A collection of labelled images used like a generator: for a condition it returns a real image of a class drawn from it.

For users who have source images but no generator, and for experiments that separate the method from the generator's quality.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ppcore.console import printable_name
from ppcore.errors import UserError
from ppcore.seeds import numpy_rng
from ppcore.targets import ImageSet, read_files, stack, usual_channels, usual_side
from ppgen.generators.parts.family import check_condition
from ppgen.sources import Generator, Source, read_options

_HASHED = 1000  # evenly spread images whose pixels, with all names and labels, identify the bank


@dataclass(frozen=True)
class BankOptions:
    """Sampling options.

    Attributes:
        resolution: side in pixels; 0 takes the median of the shorter sides.
        channels: 1 or 3; 0 takes 3 if there are images in colour, else 1.
        licence: licence of the images, for the dataset card.
    """

    resolution: int = 0
    channels: int = 0
    licence: str = "unknown"


class ImageBank:
    """See :class:`ppgen.sources.Generator`. The sample's seed draws a class from the condition, then an image of that class."""

    revision = "local"

    def __init__(self, images: ImageSet, class_names: tuple[str, ...], options: BankOptions) -> None:
        self.class_names, self.num_classes = class_names, len(class_names)
        self.resolution = options.resolution or usual_side(images)
        self.channels = options.channels or usual_channels(images)
        self.licence = options.licence
        self._images = images
        self._members = [np.flatnonzero(images.labels == label) for label in range(self.num_classes)]

    def sample(self, condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        """See :meth:`ppgen.sources.Generator.sample`. Raises UserError for a class without images or a damaged image."""
        chosen = self._choose(condition, seeds)
        return stack(self._images.select(chosen), self.resolution, self.channels)

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
                    f"the bank has no image of class {label} ({self.class_names[label]}); leave the class out with --classes, or add images"
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
    """A bank from any layout of labelled images that a target may have. Of split data only the training images are used.

    Raises:
        UserError: no images, or options that do not fit.
    """
    options = read_options(BankOptions, source)
    if options.channels not in (0, 1, 3) or options.resolution < 0:
        raise UserError(
            f"sampling options channels={options.channels} and resolution={options.resolution} do not fit an image; "
            "channels must be 0, 1 or 3, and resolution 0 or a number of pixels"
        )
    images = read_files(source.location)
    if not len(images.train):
        raise UserError(
            f"{source.spec} holds no images; give a folder of images by class, a parquet file or tars with labels"
        )
    return ImageBank(images.train, tuple(map(printable_name, images.classes)), options)
