"""A target: labelled images and their splits; and the protocols of its readers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from ppcore.console import printable_name
from ppcore.errors import UserError
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

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "ids", [printable_name(name) for name in self.ids]
        )  # as every file can hold them

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, position: int) -> np.ndarray:
        """uint8 (H, W, C), C 1 or 3."""
        return self.load(position)

    def select(self, positions: Sequence[int] | np.ndarray) -> ImageSet:
        """The images at `positions`, in that order."""
        chosen = np.asarray(positions, dtype=np.int64)
        load, encoded = self.load, self.encoded
        return ImageSet(
            [self.ids[p] for p in chosen],
            self.labels[chosen],
            lambda p: load(int(chosen[p])),
            None if encoded is None else lambda p: encoded(int(chosen[p])),
        )


@dataclass(frozen=True)
class Target:
    """The small labelled task: class names, training images and test images (disjoint).

    Attributes:
        notes: one sentence for each kind of file that was not used.
    """

    name: str
    classes: tuple[str, ...]
    train: ImageSet
    test: ImageSet
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", printable_name(self.name))
        object.__setattr__(self, "classes", tuple(map(printable_name, self.classes)))


class Splits(NamedTuple):
    """A target as its files define it: `test` is None if they have no test split; `notes` as in :class:`Target`."""

    train: ImageSet
    test: ImageSet | None
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


class FileReader(Protocol):
    """Reads one format of files; :data:`ppcore.targets.files.READERS` lists them by suffix."""

    def __call__(self, files: Sequence[str]) -> tuple[ImageSet, tuple[str, ...]]:
        """The images of one split and the class names, () if the files have no names. Raises UserError."""
        ...


class Layout(Protocol):
    """Reads one layout of a directory; :data:`ppcore.targets.layouts.LAYOUTS` lists them."""

    def __call__(self, root: Path) -> Splits | None:
        """The target in `root`; None if it has another layout. Raises UserError if a part of the layout is missing."""
        ...


TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing", "val", "validation", "valid")
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
    """(train, test), split by a hash of the names, so that new images change the split little.

    Args:
        keep: training images of every class; None keeps all but a fifth.
    """
    ranks = np.array([hashlib.sha256(name.encode()).hexdigest() for name in images.ids])
    held: list[int] = []
    for label in np.unique(images.labels):
        members = np.flatnonzero(images.labels == label)
        count = len(members) // _TEST_SHARE if keep is None else max(0, len(members) - keep)
        held.extend(members[np.argsort(ranks[members])][:count].tolist())
    test = np.sort(np.array(held, dtype=np.int64))
    train = np.setdiff1d(np.arange(len(images)), test)
    return images.select(train), images.select(test)


def sort_files(files: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """(training files, test files, files of other splits), by the names of files and folders.

    `test` comes before `val` as the test split. Files without a split in their name are training files only if no file is called
    `train*`, because some data sets contain extra or corrupted copies of their test images.
    """
    kinds = {file: _kind(file) for file in files}
    test = next((name for name in TEST_NAMES if name in kinds.values()), None)
    named = any(kind == TRAIN_NAMES[0] for kind in kinds.values())
    train = [f for f, kind in kinds.items() if kind == TRAIN_NAMES[0] or (not named and kind is None)]
    held = [f for f, kind in kinds.items() if test is not None and kind == test]
    return train, held, [f for f in files if f not in train and f not in held]


def _kind(file: str) -> str | None:
    """`train`, one of TEST_NAMES, or None: the beginning of the file's name, else the name of its folder."""
    kinds = (TRAIN_NAMES[0], *sorted(TEST_NAMES, key=len, reverse=True))
    name, folder = Path(file).name.lower(), Path(file).parent.name.lower()
    by_name = next((kind for kind in kinds if name.startswith(kind)), None)
    return by_name or next((kind for kind in kinds if folder == kind), None)
