"""A look at every image of a target: what it holds, and what cannot be read."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ppcore.errors import UserError
from ppcore.targets.duplicates import find_problems
from ppcore.targets.target import ImageSet, Target

_SHOWN = 10  # unreadable images named outright


@dataclass
class Inspection:
    """What :func:`inspect_target` found.

    Attributes:
        smallest, largest: shorter and longer side in pixels, over all images that can be read.
        grey: images with one channel.
        unreadable: one sentence for each of the others.
        problems: see :func:`ppcore.targets.duplicates.find_problems`.
    """

    target: Target
    smallest: int = 0
    largest: int = 0
    grey: int = 0
    unreadable: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """Lines for a person."""
        target = self.target
        counts = np.bincount(target.train.labels, minlength=len(target.classes))
        lines = [
            f"{target.name}: {len(target.classes)} classes, {len(target.train)} training images "
            f"({counts.min()} to {counts.max()} a class), {len(target.test)} test images",
            f"sides from {self.smallest} to {self.largest} pixels, {self.grey} images grey",
            *(f"warning: {problem}" for problem in self.problems),
        ]
        if self.unreadable:
            lines.append(f"{len(self.unreadable)} images cannot be read:")
            lines += [f"  {reason}" for reason in self.unreadable[:_SHOWN]]
        return "\n".join(lines)


def inspect_target(target: Target) -> Inspection:
    """Decode every image of a target, once."""
    found = Inspection(target, problems=find_problems(target))
    sides: list[int] = []
    for images in (target.train, target.test):
        for height, width, channels in _shapes(images, found.unreadable):
            sides += [height, width]
            found.grey += channels == 1
    found.smallest, found.largest = min(sides, default=0), max(sides, default=0)
    return found


def _shapes(images: ImageSet, unreadable: list[str]) -> list[tuple[int, ...]]:
    shapes = []
    for position in range(len(images)):
        try:
            shapes.append(images.image(position).shape)
        except UserError as error:
            unreadable.append(str(error))
    return shapes
