"""Data sets whose splits are text files, a line an image."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ppcore.errors import UserError
from ppcore.targets.layouts.listed import Row, listed_splits, read_lines
from ppcore.targets.target import Splits


@dataclass(frozen=True)
class TextLists:
    """Lists of the training and of the test images; see :class:`ppcore.targets.target.Layout`.

    Attributes:
        train, test: the lists, relative to the directory.
        images: the folder that the lists' names are relative to.
        line: regular expression with the groups `image` and `label`, the class's name.
        suffix: of the files, where the lists leave it out.
        classes: file of the class names in order; without one they are sorted, capitals like small letters.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    images: str
    line: str
    suffix: str = ""
    classes: str | None = None

    def __call__(self, root: Path) -> Splits | None:
        """The images that the lists name."""
        needed = [root / name for name in (*self.train, *self.test)]
        if not any(file.is_file() for file in needed) or not (root / self.images).is_dir():
            return None
        absent = [str(file) for file in needed if not file.is_file()]
        if absent:
            raise UserError(
                f"{absent[0]} is missing, a list of the split; unpack all archives of the data set into {root}"
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
                        f"{root / name} has the line {line!r}, which names no image and class; unpack it again"
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
        raise UserError(f"the lists in {root} number different images; unpack the data set again")
    order = {number: position for position, number in enumerate(classes)}
    rows: dict[str, list[Row]] = {"0": [], "1": []}
    for number, file in files.items():
        rows.setdefault(training[number], []).append(Row(file, order[labels[number]]))
    names = [name.partition(".")[2] or name for name in classes.values()]
    return listed_splits(root, "images", rows["1"], rows["0"], names)
