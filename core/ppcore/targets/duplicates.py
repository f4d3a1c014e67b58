"""The same image twice, byte for byte: in training and in test, or under two classes."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

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
