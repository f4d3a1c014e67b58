"""Images listed in CSV files: a column names the file, one the class, and one may name the split."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ppcore.errors import UserError
from ppcore.images import IMAGE_EXTENSIONS
from ppcore.storage import require_inside
from ppcore.targets.pixels import encoded_set
from ppcore.targets.target import TEST_NAMES, TRAIN_NAMES, ImageSet, Splits

TABLES = (".csv", ".tsv")
_IMAGE = ("image", "img", "file_name", "filename", "file", "image_path", "filepath", "path", "image_id", "id")
_LABEL = ("label", "class", "class_name", "category", "target", "labels", "species", "breed")
_SPLIT = ("split", "subset", "set", "partition")
_FOLDERS = ("images", "imgs", "image", "img")


@dataclass(frozen=True)
class _Row:
    file: Path
    name: str
    label: str
    split: str | None


def read_tables(train_files: Sequence[str], test_files: Sequence[str]) -> Splits:
    """Images of CSV files with a header. The classes are the labels of the training images, sorted as numbers or as words.

    Raises:
        UserError: no header with an image and a label column, a missing image, an image outside the file's directory, or a test label
            that no training image has.
    """
    train = [row for file in train_files for row in _rows(Path(file))]
    test = [row for file in test_files for row in _rows(Path(file))]
    unused: list[_Row] = []
    if not test_files:
        train, test, unused = _split(train)
    classes = _order({row.label for row in train})
    index = {name: position for position, name in enumerate(classes)}
    strange = sorted({row.label for row in test} - index.keys())
    if strange:
        raise UserError(f"the test images have the labels {strange[:5]}, which no training image has")
    note = f"the {len(unused)} images of the split {unused[0].split!r} are not used" if unused else None
    return Splits(
        _images(train, index), _images(test, index) if test else None, tuple(classes), (note,) if note else ()
    )


def find_tables(root: Path) -> list[str]:
    """CSV files in a directory that list images."""
    return sorted(str(f) for f in root.iterdir() if f.suffix.lower() in TABLES and _columns(f) is not None)


def _images(rows: Sequence[_Row], index: dict[str, int]) -> ImageSet:
    return encoded_set(
        [row.name for row in rows],
        np.array([index[row.label] for row in rows], dtype=np.int64),
        [row.file for row in rows],
    )


def _split(rows: list[_Row]) -> tuple[list[_Row], list[_Row], list[_Row]]:
    """(training, test, unused) by the split column if there is one; `test` comes before `val`."""
    given = {row.split for row in rows}
    test = next((name for name in TEST_NAMES if name in given), None)
    if not given & set(TRAIN_NAMES) or test is None:
        return rows, [], []
    parts = ([r for r in rows if r.split in TRAIN_NAMES], [r for r in rows if r.split == test])
    return *parts, [r for r in rows if r.split not in (*TRAIN_NAMES, test)]


def _order(labels: set[str]) -> list[str]:
    if all(label.isdecimal() for label in labels):
        return sorted(labels, key=int)
    return sorted(labels)


def _rows(file: Path) -> list[_Row]:
    columns = _columns(file)
    if columns is None:
        raise UserError(
            f"{file} has no header with an image column ({', '.join(_IMAGE[:4])}, ...) and a label column ({', '.join(_LABEL[:4])}, ...); "
            "use these names"
        )
    image, label, split = columns
    with file.open(newline="", encoding="utf-8-sig") as handle:
        table = [row for row in csv.reader(handle, delimiter=_delimiter(file)) if row]
    rows = table[1:]
    if any(len(row) != len(table[0]) for row in rows):
        wrong = next(n for n, row in enumerate(rows, 2) if len(row) != len(table[0]))
        raise UserError(f"{file}, row {wrong}, has another number of columns than the header; correct it")
    if not rows:
        raise UserError(f"{file} lists no images; add a row for each image below the header")
    base, suffix = _place(file, rows[0][image])
    listed = []
    for row in rows:
        path = base / f"{_inside(file, row[image])}{suffix}"
        if not path.is_file():
            raise UserError(f"{file} lists {path}, which does not exist; restore it or remove its row")
        listed.append(
            _Row(path, row[image], row[label].strip(), None if split is None else row[split].strip().lower())
        )
    return listed


def _columns(file: Path) -> tuple[int, int, int | None] | None:
    """Positions of the image, label and split column; None without such a header."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as handle:
            head = [name.strip().lower() for name in next(csv.reader(handle, delimiter=_delimiter(file)), [])]
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    positions = [
        next((head.index(name) for name in names if name in head), None) for names in (_IMAGE, _LABEL, _SPLIT)
    ]
    image, label, split = positions
    return None if image is None or label is None else (image, label, split)


def _delimiter(file: Path) -> str:
    return "\t" if file.suffix.lower() == ".tsv" else ","


def _place(file: Path, name: str) -> tuple[Path, str]:
    """(folder, suffix to add) of the first image: beside the CSV file, in `images/`, or in a folder with the name of the CSV file."""
    _inside(file, name)
    folders = [file.parent, *(file.parent / folder for folder in (*_FOLDERS, file.stem))]
    for folder in folders:
        for suffix in ("", *(f".{extension}" for extension in IMAGE_EXTENSIONS)):
            if (folder / f"{name}{suffix}").is_file():
                return folder, suffix
    raise UserError(
        f"{file} lists {name!r}, which is neither beside it nor in {', '.join(_FOLDERS[:2])} or {file.stem}; put the images there"
    )


def _inside(file: Path, name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise UserError(
            f"{file} lists {name!r}, outside its directory; put the images beside it and use relative paths"
        )
    require_inside(file.parent, name)
    return name
