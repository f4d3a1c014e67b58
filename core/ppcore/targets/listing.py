"""What a table lists: its columns by their usual names, and the listed files in the tree around it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ppcore.console import shortened
from ppcore.errors import UserError
from ppcore.images import IMAGE_EXTENSIONS
from ppcore.targets.reading import data_kind
from ppcore.targets.trees import Tree, is_image_name, join

IMAGE = ("image", "img", "file_name", "filename", "file", "image_path", "filepath", "path", "image_id", "id")
LABEL = (
    "label",
    "class",
    "class_name",
    "category",
    "target",
    "labels",
    "species",
    "breed",
    "fine_label",
    "cls",
)
SPLIT = ("split", "subset", "set", "partition")
_FOLDERS = ("images", "imgs", "image", "img")
_LONGEST = 80  # characters of a quoted value


@dataclass
class Table:
    """The columns of a file that may list images.

    Attributes:
        name: the file, relative to its tree.
        header: the names of its columns.
        lists: whether its images are stored in it, or the first of its files is in the tree.
        images: (bytes, path or None) of stored images, or paths as listed; None without such a column, or if there are no labels.
        labels: as stored; None without such a column.
        splits: as stored; None without such a column.
        numbers: the row of every image in the file, from 1.
        classes: names of the labels 0, 1, ...; may be empty.
        label_column: its name.
        open_end: the file is text and does not end in a line break, so its last row may be cut off.
    """

    name: str
    header: Sequence[str]
    lists: bool = False
    images: list[Any] | None = None
    labels: list[Any] | None = None
    splits: list[Any] | None = None
    numbers: Sequence[int] = ()
    classes: tuple[str, ...] = ()
    label_column: str = ""
    open_end: bool = False


def choose(header: Sequence[str], asked: str, usual: Sequence[str], option: str, where: str) -> list[int]:
    """The columns that may be meant, the likeliest first. Raises UserError if the one that was asked for does not exist."""
    lower = [name.strip().lower() for name in header]
    if not asked:
        return [lower.index(name) for name in usual if name in lower]
    if asked.strip().lower() not in lower:
        raise UserError(f"{where} has no column {asked!r} ({option}); it has {shortened(header, 8)}")
    return [lower.index(asked.strip().lower())]


def listed_files(tree: Tree, table: Table) -> list[str]:
    """A unique name for every image: its file in the tree, or for a stored image its path, else its number."""
    if not table.images:
        raise UserError(
            f"{tree.where(table.name)} lists no images; add a row for each image below the header"
        )
    where = tree.where(table.name)
    stored = [image for image in table.images if isinstance(image, tuple)]
    if stored:
        if len(stored) < len(table.images):
            row = next(r for r, image in enumerate(table.images, 1) if not isinstance(image, tuple))
            raise UserError(
                f"{where}, row {row}, has no image, but other rows have; add it or remove the row"
            )
        paths = [path for _, path in stored]
        unique = all(paths) and len(set(paths)) == len(paths)
        front = PurePosixPath(table.name).stem
        return (
            [str(path) for path in paths] if unique else [f"{front}-{row:06d}" for row in range(len(paths))]
        )
    first = str(table.images[0] or "")
    found = find_file(tree, table.name, first)
    if found is None:
        raise UserError(
            f"{where}, row {table.numbers[0]}, lists {quoted(first)}, which does not exist below {tree.place}; restore it or drop the row"
        )
    drop, base, suffix = found
    names = []
    for value, number in zip(table.images, table.numbers, strict=True):
        path = _tail(str(value or ""), drop)
        name = join(base, f"{path}{suffix}")
        if not path or ".." in path.split("/") or not tree.has(name):
            reason = (
                f"is outside {tree.place}"
                if ".." in path.split("/")
                else f"does not exist below {tree.place}"
            )
            raise UserError(
                f"{where}, row {number}, lists {quoted(value)}, which {reason}; restore it or remove its row"
            )
        names.append(name)
    return names


def quoted(value: Any) -> str:
    """A value of a table for a message, at most 80 characters of it."""
    text = repr(str(value))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]}...'"


def _tail(path: str, drop: int) -> str:
    """A listed path with `/` between its folders, without the first `drop` of them."""
    parts = [part for part in path.strip().replace("\\", "/").split("/") if part not in ("", ".")]
    return "/".join(parts[drop:])


def find_file(tree: Tree, table: str, path: str) -> tuple[int, str, str] | None:
    """(folders of the listed path to drop, folder to add, suffix to add) so that the file is in the tree; None if there is no way."""
    folder, stem = table.rpartition("/")[0], PurePosixPath(table).stem
    if not path.strip() or ".." in path.replace("\\", "/").split("/"):
        return None
    bases = dict.fromkeys([folder, *(join(folder, f) for f in (*_FOLDERS, stem)), "", *_FOLDERS])
    suffixes = ("",) if is_image_name(path) else ("", *(f".{extension}" for extension in IMAGE_EXTENSIONS))
    # Folders are dropped from absolute paths only: they were written on another machine.
    most = _tail(path, 0).count("/") + 1 if re.match(r"\s*(/|\\|[A-Za-z]:|file:)", path) else 1
    for drop in range(most):
        for base in bases:
            for suffix in suffixes:
                if tree.has(join(base, f"{_tail(path, drop)}{suffix}")):
                    return drop, base, suffix
    # Elsewhere in the tree: in the one folder that has such a file, or that has the split of the table.
    whole, tail = tree.everything(), _tail(path, 0)
    found = [(base, s) for base in whole.folders for s in suffixes if join(base, f"{tail}{s}") in whole.names]
    kind = data_kind(PurePosixPath(table))
    of_split = [(base, s) for base, s in found if data_kind(PurePosixPath(base, "")) == kind]
    chosen = of_split if len(found) > 1 else found
    return (0, *chosen[0]) if len(chosen) == 1 else None
