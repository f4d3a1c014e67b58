"""Data sets whose splits are text files, a line an image; and the check that every listed image is in the directory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ppcore.errors import UserError
from ppcore.storage import require_inside
from ppcore.targets.pixels import encoded_set
from ppcore.targets.target import ImageSet, Splits


class Row(NamedTuple):
    """The file of an image, relative to the folder of the images, and its label (index of the class)."""

    file: str
    label: int


def listed_splits(
    root: Path, folder: str, train: Iterable[Row], test: Iterable[Row], classes: Sequence[str]
) -> Splits:
    """The images of `root/folder` with the names in the lists.

    Raises:
        UserError: a listed file is missing or outside the folder, or a label has no class.
    """
    missing: list[str] = []
    sets = [_images(root / folder, list(rows), classes, missing) for rows in (train, test)]
    if missing:
        raise UserError(
            f"{len(missing)} listed images are missing below {root / folder}, the first of them {missing[0]!r}; unpack all archives "
            "of the data set into one directory"
        )
    return Splits(sets[0], sets[1], tuple(classes))


def read_lines(file: Path) -> list[str]:
    """The lines of a list that are not blank. Raises UserError if the file is not text."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as a list of images ({error}); unpack it again") from error
    return [line.strip() for line in lines if line.strip()]


def _images(folder: Path, rows: list[Row], classes: Sequence[str], missing: list[str]) -> ImageSet:
    existing = _files(folder, {str(PurePosixPath(row.file).parent) for row in rows})
    for row in rows:
        if not 0 <= row.label < len(classes):
            raise UserError(
                f"{row.file} is listed with class {row.label + 1} of {len(classes)}; the lists do not fit together"
            )
        if row.file not in existing:
            missing.append(row.file)
    return encoded_set(
        [row.file for row in rows], [row.label for row in rows], [folder / row.file for row in rows]
    )


def _files(folder: Path, inner: set[str]) -> set[str]:
    """All files in these inner folders, by listing them: on a network file system a check of every file would be slow."""
    files: set[str] = set()
    for name in inner:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UserError(
                f"a list names images in {name!r}, outside {folder}; put them inside and use relative paths"
            )
        require_inside(folder, name)
        place = folder / name
        if place.is_dir():
            files |= {str(PurePosixPath(name) / entry.name) for entry in place.iterdir()}
    return files


@dataclass(frozen=True)
class TextLists:
    """A layout with text files that list the training and the test images (see :class:`ppcore.targets.target.Layout`).

    Attributes:
        train, test: the lists, relative to the directory.
        images: the folder of the images; names in the lists are relative to it.
        line: regular expression of a line, with the groups `image` and `label` (name of the class).
        suffix: suffix of the files if the lists omit it.
        classes: file with the class names in order; without it they are sorted, ignoring case.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    images: str
    line: str
    suffix: str = ""
    classes: str | None = None

    def __call__(self, root: Path) -> Splits | None:
        """The target in `root`, or None if it has none of the lists."""
        needed = [root / name for name in (*self.train, *self.test)]
        if not any(file.is_file() for file in needed) or not (root / self.images).is_dir():
            return None
        absent = [str(file) for file in needed if not file.is_file()]
        if absent:
            raise UserError(
                f"{absent[0]} is missing; it lists images of a split. Unpack all archives of the data set into {root}"
            )
        train, test = self._pairs(root, self.train), self._pairs(root, self.test)
        names = (
            read_lines(root / self.classes)
            if self.classes is not None
            else sorted({name for _, name in train + test}, key=str.casefold)
        )
        index = {name: position for position, name in enumerate(names)}
        rows = [[Row(file, index.get(name, -1)) for file, name in pairs] for pairs in (train, test)]
        return listed_splits(root, self.images, rows[0], rows[1], names)

    def _pairs(self, root: Path, lists: tuple[str, ...]) -> list[tuple[str, str]]:
        """(file, class name) of every line."""
        pairs = []
        for name in lists:
            for line in read_lines(root / name):
                match = re.fullmatch(self.line, line)
                if match is None:
                    raise UserError(
                        f"{root / name} has the line {line!r}, expected an image and a class; unpack it again"
                    )
                pairs.append((match["image"] + self.suffix, match["label"]))
        return pairs


def read_cub(root: Path) -> Splits | None:
    """CUB-200-2011: `images.txt`, `image_class_labels.txt`, `train_test_split.txt` and `classes.txt`, joined by image number."""
    lists = [
        root / name
        for name in ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt")
    ]
    if not all(file.is_file() for file in lists):
        return None
    files, labels, training, classes = (
        dict(line.split(maxsplit=1) for line in read_lines(file)) for file in lists
    )
    if not files.keys() == labels.keys() == training.keys() or not set(labels.values()) <= classes.keys():
        raise UserError(f"the lists in {root} have different image numbers; unpack the data set again")
    order = {number: position for position, number in enumerate(classes)}
    rows: dict[str, list[Row]] = {"0": [], "1": []}
    for number, file in files.items():
        rows.setdefault(training[number], []).append(Row(file, order[labels[number]]))
    names = [name.partition(".")[2] or name for name in classes.values()]
    return listed_splits(root, "images", rows["1"], rows["0"], names)
