"""What is wrong with a target: images that cannot be read, and the same image in training and test or in two classes."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ppcore.errors import UserError
from ppcore.targets.target import Encoded, ImageSet, Target


class _Copy(NamedTuple):
    test: bool
    label: int
    name: str


def find_problems(target: Target) -> list[str]:
    """What a user should know of a target's images, one sentence each: what was left out, test images among the training images, one
    image under two classes. Only images whose files are of one length are read.
    """
    groups = _equal_images(target)
    overlap = [group for group in groups if len({copy.test for copy in group}) == 2]
    noise = [group for group in groups if len({copy.label for copy in group}) > 1]
    found = [*target.notes]
    if overlap:
        count = sum(copy.test for group in overlap for copy in group)
        found.append(
            f"{count} of {len(target.test)} test images are training images, too ({_names(overlap[0])}); accuracy on them is memory"
        )
    if noise:
        count = sum(len(group) for group in noise)
        classes = ", ".join(sorted({target.classes[copy.label] for copy in noise[0]}))
        found.append(
            f"{len(noise)} images stand under two classes or more, {count} times in all ({_names(noise[0])}: {classes}); one label is wrong"
        )
    return [f"target {target.name}: {problem}" for problem in found]


def _names(group: list[_Copy]) -> str:
    first = group[0]
    other = next((copy for copy in group if copy[:2] != first[:2]), group[-1])
    return f"such as {first.name} and {other.name}"


def _equal_images(target: Target) -> list[list[_Copy]]:
    """Groups of two or more images with the same bytes, in the target's order."""
    by_length: dict[int, list[tuple[_Copy, Encoded]]] = defaultdict(list)
    for images in (target.train, target.test):
        for copy, encoded in _copies(images, test=images is target.test):
            by_length[_length(encoded)].append((copy, encoded))
    by_content: dict[bytes, list[_Copy]] = defaultdict(list)
    for length, members in by_length.items():
        if length and len(members) > 1:
            for copy, encoded in members:
                by_content[_digest(encoded)].append(copy)
    return [group for group in by_content.values() if len(group) > 1]


def _copies(images: ImageSet, *, test: bool) -> list[tuple[_Copy, Encoded]]:
    if images.encoded is None:
        return []
    return [
        (_Copy(test, int(images.labels[p]), images.ids[p]), images.encoded(p)) for p in range(len(images))
    ]


def _length(encoded: Encoded) -> int:
    """In bytes; 0 for a file that cannot be read, which its reader will complain of."""
    if isinstance(encoded, bytes):
        return len(encoded)
    try:
        return encoded.stat().st_size
    except OSError:
        return 0


def _digest(encoded: Encoded) -> bytes:
    data = encoded.read_bytes() if isinstance(encoded, Path) else encoded
    return hashlib.blake2b(data, digest_size=16).digest()


_SHOWN = 10  # unreadable images named outright


@dataclass
class Inspection:
    """What :func:`inspect_target` found.

    Attributes:
        smallest, largest: shorter and longer side in pixels, over all images that can be read.
        grey: images with one channel.
        unreadable: one sentence for each of the others.
        problems: see :func:`ppcore.targets.problems.find_problems`.
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
