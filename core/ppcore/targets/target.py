"""A target: labelled images and their splits; and the protocols of its readers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

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
