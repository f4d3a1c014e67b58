"""From the rows of a data set's lists to its images: every file is there, none outside the directory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ppcore.errors import UserError
from ppcore.storage import require_inside
from ppcore.targets.pixels import encoded_set
from ppcore.targets.target import ImageSet, Splits


class Row(NamedTuple):
    """An image's file, relative to the directory of all, and its label, an index or a class's name."""

    file: str
    label: int


def listed_splits(
    root: Path, folder: str, train: Iterable[Row], test: Iterable[Row], classes: Sequence[str]
) -> Splits:
    """Images of `root/folder`, named as the lists name them.

    Raises:
        UserError: a listed file is missing, or outside the folder, or a label has no class.
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
    """The lines of a list that are not blank. Raises UserError where it is no text."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as a list of images ({error}); unpack it again") from error
    return [line.strip() for line in lines if line.strip()]


def _images(folder: Path, rows: list[Row], classes: Sequence[str], missing: list[str]) -> ImageSet:
    there = _files(folder, {str(PurePosixPath(row.file).parent) for row in rows})
    for row in rows:
        if not 0 <= row.label < len(classes):
            raise UserError(
                f"{row.file} is listed with class {row.label + 1} of {len(classes)}; the lists do not belong together"
            )
        if row.file not in there:
            missing.append(row.file)
    return encoded_set(
        [row.file for row in rows], [row.label for row in rows], [folder / row.file for row in rows]
    )


def _files(folder: Path, inner: set[str]) -> set[str]:
    """Every file in these inner folders, by a listing of each: asking for every file would cost a round trip an image."""
    found: set[str] = set()
    for name in inner:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UserError(
                f"a list names images in {name!r}, outside {folder}; put them inside and name them from there"
            )
        require_inside(folder, name)
        place = folder / name
        if place.is_dir():
            found |= {str(PurePosixPath(name) / entry.name) for entry in place.iterdir()}
    return found
