"""A target: labelled images and their splits; and the protocol of its layouts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from ppcore.console import printable_name
from ppcore.errors import UserError
from ppcore.images import IMAGE_EXTENSIONS
from ppcore.seeds import numpy_rng

Encoded = Path | bytes
"""An encoded image: its file, or its bytes."""


@dataclass(frozen=True)
class ImageSet:
    """Labelled images, decoded on demand.

    Attributes:
        ids: unique, stable names.
        labels: int64 (N,), positions in the target's `classes`.
        load: position -> uint8 (H, W, C) with C 1 or 3; raises UserError for a damaged image.
        encoded: position -> its file or its bytes as stored; None if unknown.
    """

    ids: list[str]
    labels: np.ndarray
    load: Callable[[int], np.ndarray]
    encoded: Callable[[int], Encoded] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, position: int) -> np.ndarray:
        """uint8 (H, W, C), C 1 or 3."""
        return self.load(position)

    @cached_property
    def stems(self) -> list[str]:
        """The names without folders and suffixes: they do not depend on the container of the images."""
        return list(map(stem, self.ids))

    def select(self, positions: Sequence[int] | np.ndarray) -> ImageSet:
        """The images at `positions`, in that order."""
        array = np.asarray(positions, dtype=np.int64)
        chosen: list[int] = array.tolist()
        load, encoded = self.load, self.encoded
        images = ImageSet(
            [self.ids[p] for p in chosen],
            self.labels[array],
            lambda p: load(chosen[p]),
            None if encoded is None else lambda p: encoded(chosen[p]),
        )
        if "stems" in self.__dict__:  # already computed
            images.__dict__["stems"] = [self.stems[p] for p in chosen]
        return images


@dataclass(frozen=True)
class Target:
    """The small labelled task: class names, training images and test images (disjoint).

    Attributes:
        notes: how it was read, and what was not used, one sentence each.
        doubts: reasons why the reading may not be what the user means, one sentence each.
    """

    name: str
    classes: tuple[str, ...]
    train: ImageSet
    test: ImageSet
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", printable_name(self.name))
        object.__setattr__(self, "classes", tuple(map(printable_name, self.classes)))


class Splits(NamedTuple):
    """A target as its files define it: `test` is None if they have no test split; the rest as in :class:`Target`."""

    train: ImageSet
    test: ImageSet | None
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


class Layout(Protocol):
    """Reads one layout of a directory; :data:`ppcore.targets.layouts.LAYOUTS` lists them."""

    def __call__(self, root: Path) -> Splits | None:
        """The target in `root`; None if it has another layout. Raises UserError if a part of the layout is missing."""
        ...


IMAGE_ENDINGS = tuple(f".{extension}" for extension in IMAGE_EXTENSIONS)
_TEST_SHARE = 5  # without a test split every fifth image of a class is held out


def few_shot(labels: np.ndarray, per_class: int | None, seed: int) -> np.ndarray:
    """Positions of `per_class` images of every class: int64, ascending.

    The choice depends only on `labels` and `seed`, so that ppgen and pptrain choose the same images. It is nested: with the same seed,
    the images for 2 labels a class are among those for 5. None keeps every image.

    Raises:
        UserError: a class has fewer images than asked for.
    """
    if per_class is None:
        return np.arange(len(labels), dtype=np.int64)
    if per_class < 1:
        raise UserError(f"labels per class is {per_class}; give at least 1")
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < per_class:
            raise UserError(
                f"{per_class} labels a class were asked for but class {int(label)} has only {len(members)} training images; "
                f"lower --labels-per-class"
            )
        chosen.append(numpy_rng(seed, "few-shot", int(label)).permutation(members)[:per_class])
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def hold_out(images: ImageSet, keep: int | None = None) -> tuple[ImageSet, ImageSet]:
    """(train, test), split by a hash of :func:`stem` of the names, so that new images and other containers change the split little.

    Args:
        keep: training images of every class; None keeps all but a fifth.
    """
    ranks = [hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest() for name in images.stems]
    held = np.zeros(len(images), dtype=np.bool_)
    for label in np.unique(images.labels):
        members = np.flatnonzero(images.labels == label).tolist()
        count = len(members) // _TEST_SHARE if keep is None else max(0, len(members) - keep)
        held[sorted(members, key=ranks.__getitem__)[:count]] = True
    return images.select(np.flatnonzero(~held)), images.select(np.flatnonzero(held))


def stem(name: str) -> str:
    """The name of an image without folders and without its suffix, which depend on how a collection is stored."""
    end = name.rfind(".") if name.lower().endswith(IMAGE_ENDINGS) else None
    return name[name.rfind("/") + 1 : end]
