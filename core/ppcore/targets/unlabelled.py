"""Images without labels, from the same places as a target: files, folders, patterns, tables, archives, a list on standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from glob import glob
from pathlib import Path

from ppcore.errors import UserError
from ppcore.places import local_path
from ppcore.targets.arrow import ARROW
from ppcore.targets.pixels import encoded_set
from ppcore.targets.reading import parse_spec
from ppcore.targets.tables import find_tables, listed_images, open_table
from ppcore.targets.target import Encoded, ImageSet
from ppcore.targets.texts import TEXTS
from ppcore.targets.trees import FolderTree, Tree, is_archive, is_image_name, join, open_archive, suffix_of


def open_images(places: Sequence[str]) -> ImageSet:
    """All images of these places, in the order of the places, sorted within each; labels are 0.

    Args:
        places: image files, folders, patterns such as `photos/*.jpg`, tables (CSV, JSON lines, parquet), archives, or `-` for a list of
            places on standard input, one a line. The options of a table follow a question mark: `list.csv?image-column=photo`.

    Raises:
        UserError: a place does not exist or is damaged, or there are no images at all.
    """
    names: list[str] = []
    sources: list[Encoded] = []
    for place in places:
        lines = (line.rstrip("\r\n") for line in sys.stdin) if place == "-" else (place,)
        for given in filter(None, lines):
            found, images = _open(local_path(given))
            names += found
            sources += images
    if not names:
        raise UserError(
            f"there are no images in {', '.join(places)}; give image files, folders, tables or archives"
        )
    return encoded_set(names, [0] * len(names), sources)


def _open(given: str) -> tuple[list[str], Iterable[Encoded]]:
    """(names, images) of one place."""
    place, options = parse_spec(given)
    path = Path(place)
    if path.is_dir():
        tree: Tree = FolderTree(path)
        archives = [path / name for name in tree.others if is_archive(name)]
        if tree.folders or not archives:
            return _in_tree(tree, given)
        pairs = [_in_tree(open_archive(file), given) for file in archives]
        return [n for names, _ in pairs for n in names], [image for _, images in pairs for image in images]
    if path.is_file():
        if is_archive(path.name):
            return _in_tree(open_archive(path), given)
        if not is_image_name(path.name) and suffix_of(path.name) in (*ARROW, *TEXTS):
            around = FolderTree(path.parent, [path.name])
            return listed_images(around, open_table(around, path.name, options, labelled=False))
        return [str(path)], [path]
    files = sorted(glob(place, recursive=True))
    if not files:
        raise UserError(
            f"there is no file or folder {place}, and no file matches this pattern; check the path"
        )
    pairs = [_open(file) for file in files]
    return [n for names, _ in pairs for n in names], [image for _, images in pairs for image in images]


def _in_tree(tree: Tree, given: str) -> tuple[list[str], Iterable[Encoded]]:
    """The images of a folder or an archive, or those stored in its tables."""
    _, options = parse_spec(given)
    names = [join(folder, name) for folder, images in tree.folders.items() for name in images]
    if names:
        return [tree.where(name) for name in names], tree.sources(names)
    tables = find_tables(tree, options, labelled=False)
    pairs = [listed_images(tree, table) for table in tables if table.images is not None]
    return [n for found, _ in pairs for n in found], [image for _, images in pairs for image in images]
