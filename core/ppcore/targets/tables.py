"""Targets from tables that list images: which tables of a tree, and the splits of their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from ppcore.console import shortened
from ppcore.errors import UserError
from ppcore.targets.arrow import ARROW, has_images, read_arrow
from ppcore.targets.listing import IMAGE, LABEL, Table, listed_files, quoted
from ppcore.targets.reading import TRAIN, ReadOptions, Report, data_kind, few, split_kind
from ppcore.targets.rows import Rows, build
from ppcore.targets.target import Encoded, Splits
from ppcore.targets.texts import TEXTS, read_text
from ppcore.targets.trees import Tree, suffix_of

_MOST_TABLES = 50  # files of one suffix; more of them are descriptions of single images


def find_tables(tree: Tree, options: ReadOptions, *, labelled: bool = True) -> list[Table]:
    """The tables of a tree, without parquet files of no split if others are called train.

    Args:
        labelled: look for labels, too.

    Raises:
        UserError: a table is damaged, or two columns could be the labels.
    """
    arrow = [name for name in tree.others if suffix_of(name) in ARROW]
    if labelled and options.split in ("", "folder"):
        of_split = [
            n for n in arrow if data_kind(PurePosixPath(n)) is not None and has_images(tree, n, options)
        ]
        if any(data_kind(PurePosixPath(name)) == TRAIN for name in of_split):
            arrow = of_split
    texts = [[name for name in tree.others if suffix_of(name) == suffix] for suffix in TEXTS]
    names = [*arrow, *(name for group in texts if len(group) <= _MOST_TABLES for name in group)]
    tables = (_read(tree, name, options, labelled) for name in names)
    return [table for table in tables if table is not None]


def open_table(tree: Tree, name: str, options: ReadOptions, *, labelled: bool = True) -> Table:
    """One table that must list images, and their labels if `labelled`.

    Raises:
        UserError: it does not, it is damaged, or two of its columns could be the labels.
    """
    table = _read(tree, name, options, labelled)
    if table is None or table.images is None or (labelled and table.labels is None):
        columns = f"the columns {shortened(table.header, 8)}" if table is not None else "no header"
        raise UserError(
            f"{tree.where(name)} has {columns}, expected files or images ({', '.join(IMAGE[:3])}, ...) and labels "
            f"({', '.join(LABEL[:3])}, ...); name them with --image-column and --label-column"
        )
    return table


def _read(tree: Tree, name: str, options: ReadOptions, labelled: bool) -> Table | None:
    read = read_arrow if suffix_of(name) in ARROW else read_text
    return read(tree, name, options, labelled=labelled)


def read_tables(tree: Tree, tables: Sequence[Table], options: ReadOptions, report: Report) -> Splits:
    """The images of tables: their splits by a column, else by the names of the files and their folders.

    Raises:
        UserError: a listed image is missing or outside the tree, a label is missing, two tables give an image different labels, or there
            are no training images.
    """
    kinds = {
        table.name: data_kind(PurePosixPath(table.name)) if options.split in ("", "folder") else None
        for table in tables
    }
    parts: dict[str, _Part] = {}
    used = []
    for table in tables:
        kind = kinds[table.name]
        if kind is None and TRAIN in kinds.values():
            report.notes.append(f"{table.name} is not used: other files are called train")
        elif _add(tree, table, kind, parts, options, report):
            used.append(table)
    what = f"classes by the column {used[0].label_column!r} of {shortened([table.name for table in used], 2)}"
    _refuse_several(tree, used)
    report.doubts += [
        f"{table.name} may be cut off: it ends without a line break, and no other row has the last label {quoted(labels[-1])}"
        for table in used
        if table.open_end and len(labels := table.labels or []) > 1 and labels[-1] not in labels[:-1]
    ]
    listed = sum(len(part.names) for part in parts.values())
    if tree.count > listed:
        said = report.doubts if tree.count > 2 * listed else report.notes
        said.append(f"{tree.count - listed} images are not used: no table lists them")
    classes = next((table.classes for table in used if table.classes), ())
    return build({kind: part.rows(tree) for kind, part in parts.items()}, tree.place, what, report, classes)


def _refuse_several(tree: Tree, tables: Sequence[Table]) -> None:
    """Raise UserError if the tables are of several data sets: their classes differ, or their folders and all their labels do."""
    first = next((table for table in tables if table.classes), None)
    other = next((t for t in tables if first and t.classes and set(t.classes) != set(first.classes)), None)
    if first is None:
        folders: dict[str, set[str]] = {}
        for table in tables:
            folders.setdefault(table.name.rpartition("/")[0], set()).update(map(str, table.labels or ()))
        plain = {
            folder: labels for folder, labels in folders.items() if not split_kind(folder.rpartition("/")[2])
        }
        names = list(plain)
        if len(names) > 1 and not plain[names[0]] & plain[names[1]]:
            first, other = (
                next(t for t in tables if t.name.rpartition("/")[0] == name) for name in names[:2]
            )
    if first is not None and other is not None:
        raise UserError(
            f"{tree.place} holds several data sets: {first.name} and {other.name} have other classes; give one of them, or a pattern that "
            f"matches one data set"
        )


def listed_images(tree: Tree, table: Table) -> tuple[list[str], Sequence[Encoded]]:
    """(names for messages, images) of a table. Raises UserError if a listed image is missing or outside the tree."""
    names, stored = listed_files(tree, table), _stored(table)
    return [tree.where(name) for name in names], stored or tree.sources(names)


def _stored(table: Table) -> list[Encoded]:
    """The images that are stored in a table; empty if it lists files."""
    return [image[0] for image in table.images or () if isinstance(image, tuple)]


@dataclass
class _Part:
    """The images of a split; `given` has those that are stored in the tables."""

    names: list[str] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    given: dict[str, Encoded] = field(default_factory=dict)
    listed: set[str] = field(default_factory=set)

    def rows(self, tree: Tree) -> Rows:
        def sources(names: Sequence[str]) -> Sequence[Encoded]:
            return [self.given[name] for name in names] if self.given else tree.sources(names)

        return Rows(self.names, self.labels, sources, self.places.__getitem__)


def _add(
    tree: Tree, table: Table, kind: str | None, parts: dict[str, _Part], options: ReadOptions, report: Report
) -> bool:
    """Add the images of a table to the splits they belong to; False if another table has them."""
    files = listed_files(tree, table)
    kinds = _kinds(table, files, kind, options, report)
    stored = _stored(table)
    known = parts[kinds[0]] if kinds[0] in parts else _Part()
    if bool(known.given) != bool(stored) and known.names:
        raise UserError(
            f"{tree.place} has images in {table.name} and other images in a table of paths; give one of the files as the target"
        )
    labels = {} if stored else dict(zip(known.names, known.labels, strict=True))
    again = 0
    for position, (name, label, number) in enumerate(
        zip(files, table.labels or (), table.numbers, strict=True)
    ):
        part = parts.setdefault(kinds[position], _Part())
        if stored:
            name = (
                f"{table.name}/{number}/{name}" if name in part.given else name
            )  # paths of two files may be equal
            part.given[name] = stored[position]
        elif str(labels.setdefault(name, label)) != str(label):
            raise UserError(
                f"{tree.where(table.name)}, row {number}, gives {name} the label {label!r}, another row {labels[name]!r}; remove one row, "
                f"or give the right table as the target"
            )
        elif name in part.listed:
            again += 1
            continue
        part.listed.add(name)
        part.names.append(name)
        part.labels.append(label)
        part.places.append(f"{tree.where(table.name)}, row {number}")
    if again == len(files):
        report.notes.append(f"{table.name} is not used: another table lists the same images")
    elif again:
        report.notes.append(f"{again} rows of {table.name} are not used: other rows list the same images")
    return again < len(files)


def _kinds(
    table: Table, files: Sequence[str], kind: str | None, options: ReadOptions, report: Report
) -> list[str]:
    """The split of every image: by the column, else by the table's name or folder (`kind`), else by the folders of the images."""
    if table.splits is not None:
        named = {value: split_kind(str(value or "")) for value in set(table.splits)}
        if any(named.values()):
            return [named[value] or str(value) for value in table.splits]
        values = few(sorted(map(str, named)))
        if options.split_column:
            raise UserError(
                f"{table.name}: the column {options.split_column!r} has the values {values}, expected train, test and val"
            )
        report.doubts.append(
            f"a column of splits is not used: its values {values} are not train, test or val"
        )
    if kind is None and options.split != "none":
        folders = {file.rpartition("/")[0] for file in files}
        by_folder = {f: next((k for part in f.split("/") if (k := split_kind(part))), None) for f in folders}
        if TRAIN in by_folder.values() and None not in by_folder.values():
            return [by_folder[file.rpartition("/")[0]] or TRAIN for file in files]
        if None not in by_folder.values():
            report.doubts.append(f"all images of {table.name} lie in folders called {few(sorted(folders))}")
    return [kind or TRAIN] * len(files)
