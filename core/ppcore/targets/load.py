"""Opening a target by its name or place, and its problems: unreadable images, the same image in training and test or in two classes."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ppcore.console import shortened
from ppcore.errors import UserError
from ppcore.places import local_path
from ppcore.seeds import derive
from ppcore.targets.files import read_files
from ppcore.targets.named import NAMED, read_named
from ppcore.targets.reading import parse_spec
from ppcore.targets.target import Encoded, ImageSet, Target, hold_out

_PINNED = re.compile(r"hf://datasets/[\w.-]+/[\w.-]+@[0-9a-f]{40}")
_NAMING = re.compile(r"(?!train=|test=)([A-Za-z0-9][\w.-]*)=(.+)")


def may_be_named(spec: str) -> bool:
    """Whether a plan may name this target by itself: a known name, or a data set of the hub at a commit. Other targets must be typed."""
    return spec in NAMED or _PINNED.fullmatch(spec) is not None


def load_target(spec: str) -> Target:
    """Open a target.

    Args:
        spec: a name that `ppgen targets` lists (a local copy in $PPTRANSFER_DATA/NAME or data/NAME, else downloaded if possible);
            `NAME=PLACE`, a known target in a directory, or your own data with a name of your choice; a folder of images (classes and
            splits by folders, or by a table with `file_name` and `label` columns: CSV, JSON lines, parquet); parquet or Arrow files
            with the images inside; WebDataset shards; a zip or tar of these; `hf://datasets/ORG/NAME@REVISION`; a pattern such as
            `photos/*/*.jpg`; or `train=PLACE,test=PLACE`. Options follow a question mark: `photos?classes-from=folder:2` (see
            :class:`ppcore.targets.reading.ReadOptions`).

    If there is no test split, a fixed fifth of every class is held out, chosen by a hash of the image's name.

    Raises:
        UserError: there is no such target, it has no images or no classes, it is damaged or can be read in two ways, or a known target is
            not complete.
    """
    spec = local_path(spec)
    name, place = _parse(spec)
    known = name in NAMED and place != spec
    train, test, classes, notes, doubts = (
        read_named(NAMED[name], place) if known else read_files(place or spec)
    )
    if not len(train):
        raise UserError(f"target {name!r} has no training images; give a folder or file with images")
    if test is None:
        train, test = hold_out(train)
        held = "a fifth of every class is held out as test images"
        notes = (
            *notes,
            f"no test split: {held if len(test) else 'no class has five images, so none is held out'}",
        )
    return Target(name, classes, train, test, notes, doubts)


def target_name(spec: str) -> str:
    """The name of a target, for directory names: as given, else the last part of the path; for file patterns a hash."""
    return _parse(spec)[0]


def _parse(spec: str) -> tuple[str, str | None]:
    """(name of the target, its place or None for a known name)."""
    if spec in NAMED:
        return spec, None
    place, _ = parse_spec(spec)
    naming = _NAMING.fullmatch(spec)
    if naming is not None and not Path(place).exists():
        return naming[1], naming[2]
    if re.match("train=|test=", spec):
        return f"files-{derive(0, spec) % 16**8:08x}", spec
    last = Path(place.split("@")[0].rstrip("/")).name.split(".")[0]
    return re.sub(r"[*?\[\]]+", "", last).strip("-_") or "target", spec


def describe_target(target: Target) -> list[str]:
    """How a target was read, in lines for people: numbers, classes, reader, what is not used. The doubts are warnings of
    :func:`find_problems`.
    """
    train, test = (
        np.bincount(s.labels, minlength=len(target.classes)).tolist() for s in (target.train, target.test)
    )
    counts = [f"{name} {n}+{held}" for name, n, held in zip(target.classes, train, test, strict=True)]
    return [
        f"target {target.name}: {len(train)} classes, {sum(train)} training images ({min(train)} to {max(train)} a class), "
        f"{sum(test)} test images",
        f"  training+test images: {shortened(counts, _MOST_CLASSES)}",
        *(f"  {note}" for note in target.notes),
    ]


class _Copy(NamedTuple):
    test: bool
    label: int
    name: str


def find_problems(target: Target) -> list[str]:
    """Warnings about a target's images, one sentence each: doubts about the reading, test images that are also training images, images
    with two classes. Only images whose files have the same length are read and compared.
    """
    groups = _equal_images(target)
    overlap = [group for group in groups if len({copy.test for copy in group}) == 2]
    noise = [group for group in groups if len({copy.label for copy in group}) > 1]
    problems = [*target.doubts]
    if overlap:
        count = sum(copy.test for group in overlap for copy in group)
        problems.append(
            f"{count} of {len(target.test)} test images are training images, too ({_names(overlap[0])}); the accuracy on them means nothing"
        )
    if noise:
        count = sum(len(group) for group in noise)
        classes = ", ".join(sorted({target.classes[copy.label] for copy in noise[0]}))
        problems.append(
            f"{len(noise)} images are in two or more classes, {count} files in all ({_names(noise[0])}: {classes}); one label is wrong"
        )
    return [f"target {target.name}: {problem}" for problem in problems]


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
    """Bytes of an image; 0 for a file that cannot be read, which raises an error later."""
    if isinstance(encoded, bytes):
        return len(encoded)
    try:
        return encoded.stat().st_size
    except OSError:
        return 0


def _digest(encoded: Encoded) -> bytes:
    data = encoded.read_bytes() if isinstance(encoded, Path) else encoded
    return hashlib.blake2b(data, digest_size=16).digest()


_MOST_CLASSES = 12  # classes whose counts are printed
_SHOWN = 10  # unreadable images that are listed


@dataclass
class Inspection:
    """The result of :func:`inspect_target`.

    Attributes:
        smallest, largest: the shortest and the longest side of all readable images, in pixels.
        grey: number of images with one channel.
        unreadable: one sentence for each image that cannot be read.
        problems: see :func:`ppcore.targets.load.find_problems`.
    """

    target: Target
    smallest: int = 0
    largest: int = 0
    grey: int = 0
    unreadable: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """The result as text."""
        target = self.target
        lines = [
            *describe_target(target),
            f"sides from {self.smallest} to {self.largest} pixels, {self.grey} grey images",
            *(f"warning: {problem}" for problem in self.problems),
        ]
        if self.unreadable:
            lines.append(f"{len(self.unreadable)} images cannot be read:")
            lines += [f"  {reason}" for reason in self.unreadable[:_SHOWN]]
        return "\n".join(lines)


def inspect_target(target: Target) -> Inspection:
    """Decode every image of a target, once."""
    inspection = Inspection(target, problems=find_problems(target))
    sides: list[int] = []
    for images in (target.train, target.test):
        for height, width, channels in _shapes(images, inspection.unreadable):
            sides += [height, width]
            inspection.grey += channels == 1
    inspection.smallest, inspection.largest = min(sides, default=0), max(sides, default=0)
    return inspection


def _shapes(images: ImageSet, unreadable: list[str]) -> list[tuple[int, ...]]:
    shapes = []
    for position in range(len(images)):
        try:
            shapes.append(images.image(position).shape)
        except UserError as error:
            unreadable.append(str(error))
    return shapes
