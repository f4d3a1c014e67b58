"""Tables that list images: CSV in any dialect, JSON lines, parquet and Arrow files with the images inside or with their paths."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field

from ppcore.console import shortened
from ppcore.errors import UserError
from ppcore.images import IMAGE_EXTENSIONS
from ppcore.storage import decode
from ppcore.storage import open_table as open_parquet
from ppcore.targets.reading import TRAIN, ReadOptions, Report, ambiguous, data_kind, few, split_kind
from ppcore.targets.rows import Rows, build
from ppcore.targets.target import Encoded, Splits
from ppcore.targets.trees import Tree, is_image_name, join, suffix_of

ARROW = ("parquet", "arrow")
TEXTS = ("csv", "tsv", "jsonl", "ndjson", "json", "txt", "lst")
_IMAGE = ("image", "img", "file_name", "filename", "file", "image_path", "filepath", "path", "image_id", "id")
_LABEL = (
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
_SPLIT = ("split", "subset", "set", "partition")
_FOLDERS = ("images", "imgs", "image", "img")
_MOST_TABLES = 50  # files of one suffix; more of them are descriptions of single images
_BATCH = 256  # rows that are read from a parquet file at once
_MOST = 4  # names in a message
_LONGEST = 80  # characters of a quoted value


@dataclass
class Table:
    """The columns of a file that lists images.

    Attributes:
        name: the file, relative to its tree.
        images: encoded images, or their paths as listed.
        labels: as stored.
        splits: as stored; None without such a column.
        numbers: the row of every image in the file, from 1.
        classes: names of the labels 0, 1, ...; may be empty.
        label_column: its name.
        open_end: the file is text and does not end in a line break, so its last row may be cut off.
    """

    name: str
    images: list[Any]
    labels: list[Any]
    splits: list[Any] | None
    numbers: Sequence[int]
    classes: tuple[str, ...] = ()
    label_column: str = ""
    open_end: bool = False


def find_tables(tree: Tree, options: ReadOptions, *, labelled: bool = True) -> list[Table]:
    """The tables of a tree that list images; others are left out, and parquet files of no split if others are called train.

    Args:
        labelled: leave out tables without labels.

    Raises:
        UserError: a parquet file is damaged, or two columns could be the labels.
    """
    arrow = [n for n in tree.others if suffix_of(n) in ARROW and _has_images(tree, n, options, labelled)]
    if (
        labelled
        and options.split in ("", "folder")
        and any(data_kind(PurePosixPath(name)) == TRAIN for name in arrow)
    ):
        arrow = [name for name in arrow if data_kind(PurePosixPath(name)) is not None]
    texts = [[name for name in tree.others if suffix_of(name) == suffix] for suffix in TEXTS]
    names = [*arrow, *(name for group in texts if len(group) <= _MOST_TABLES for name in group)]
    return [
        table for name in names if (table := read_table(tree, name, options, labelled=labelled)) is not None
    ]


def open_table(tree: Tree, name: str, options: ReadOptions, *, labelled: bool = True) -> Table:
    """One table that must list images, and their labels if `labelled`.

    Raises:
        UserError: it does not, it is damaged, or two of its columns could be the labels.
    """
    header: list[str] = []
    table = read_table(tree, name, options, header, labelled=labelled)
    if table is None:
        columns = f"the columns {shortened(header, 8)}" if header else "no header"
        raise UserError(
            f"{tree.where(name)} has {columns}, expected files or images ({', '.join(_IMAGE[:3])}, ...) and labels "
            f"({', '.join(_LABEL[:3])}, ...); name them with --image-column and --label-column"
        )
    return table


def read_table(
    tree: Tree, name: str, options: ReadOptions, header: list[str] | None = None, *, labelled: bool = True
) -> Table | None:
    """One table; None if it does not list images, or no labels although `labelled`.

    Args:
        header: its columns are added to this list.

    Raises:
        UserError: it is damaged, or two of its columns could be the labels.
    """
    header = [] if header is None else header
    if suffix_of(name) in ARROW:
        return _read_arrow(tree, name, options, header, labelled)
    records = _records(tree, name)
    if records is None:
        return None
    names, rows, numbers = records
    header += names
    where = tree.where(name)
    images = _choose(header, options.image_column, _IMAGE, "--image-column", where)
    found = (c for c in images if rows and _place(tree, name, str(rows[0][c] or "")) is not None)
    place = next(found, next(iter(images), None))
    labels = [c for c in _choose(header, options.label, _LABEL, "--label-column", where) if c != place]
    if place is None or (labelled and not labels):
        return None
    label = _only(header, rows, labels, where) if labelled else place
    splits = _choose(header, options.split_column, _SPLIT, "--split column:", where)
    split = next(iter(splits), None) if options.split != "none" else None
    return Table(
        name,
        [row[place] for row in rows],
        [row[label] for row in rows],
        None if split is None else [row[split] for row in rows],
        numbers,
        label_column=header[label],
        open_end=_has_open_end(tree, name),
    )


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
        f"{table.name} may be cut off: it ends without a line break, and no other row has the last label {_quoted(table.labels[-1])}"
        for table in used
        if table.open_end and len(table.labels) > 1 and table.labels[-1] not in table.labels[:-1]
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
            folders.setdefault(table.name.rpartition("/")[0], set()).update(map(str, table.labels))
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


def has_listed(tree: Tree, table: Table) -> bool:
    """Whether the first image of a table is stored in it or found in the tree."""
    first = next(iter(table.images), None)
    return isinstance(first, tuple) or _place(tree, table.name, str(first or "")) is not None


def listed_images(tree: Tree, table: Table) -> tuple[list[str], Sequence[Encoded]]:
    """(names for messages, images) of a table. Raises UserError if a listed image is missing or outside the tree."""
    names = _files(tree, table)
    stored = isinstance(table.images[0], bytes)
    return [tree.where(name) for name in names], table.images if stored else tree.sources(names)


@dataclass
class _Part:
    """The images of a split; `given` has those that are stored in the tables."""

    names: list[str] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    given: dict[str, bytes] = field(default_factory=dict)
    listed: set[str] = field(default_factory=set)

    def rows(self, tree: Tree) -> Rows:
        def sources(names: Sequence[str]) -> Sequence[Encoded]:
            return [self.given[name] for name in names] if self.given else tree.sources(names)

        return Rows(self.names, self.labels, sources, self.places.__getitem__)


def _add(
    tree: Tree, table: Table, kind: str | None, parts: dict[str, _Part], options: ReadOptions, report: Report
) -> bool:
    """Add the images of a table to the splits they belong to; False if another table has them."""
    files = _files(tree, table)
    kinds = _kinds(table, files, kind, options, report)
    stored = isinstance(table.images[0], bytes)
    known = parts[kinds[0]] if kinds[0] in parts else _Part()
    if bool(known.given) != stored and known.names:
        raise UserError(
            f"{tree.place} has images in {table.name} and other images in a table of paths; give one of the files as the target"
        )
    labels = {} if stored else dict(zip(known.names, known.labels, strict=True))
    again = 0
    for position, (name, label, number) in enumerate(zip(files, table.labels, table.numbers, strict=True)):
        part = parts.setdefault(kinds[position], _Part())
        if stored:
            name = (
                f"{table.name}/{number}/{name}" if name in part.given else name
            )  # paths of two files may be equal
            part.given[name] = table.images[position]
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


def _files(tree: Tree, table: Table) -> list[str]:
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
        table.images, paths = [data for data, _ in stored], [path for _, path in stored]
        unique = all(paths) and len(set(paths)) == len(paths)
        front = PurePosixPath(table.name).stem
        return (
            [str(path) for path in paths] if unique else [f"{front}-{row:06d}" for row in range(len(paths))]
        )
    first = str(table.images[0] or "")
    found = _place(tree, table.name, first)
    if found is None:
        raise UserError(
            f"{where}, row {table.numbers[0]}, lists {_quoted(first)}, which does not exist below {tree.place}; restore it or drop the row"
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
                f"{where}, row {number}, lists {_quoted(value)}, which {reason}; restore it or remove its row"
            )
        names.append(name)
    return names


def _quoted(value: Any) -> str:
    text = repr(str(value))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]}...'"


def _tail(path: str, drop: int) -> str:
    """A listed path with `/` between its folders, without the first `drop` of them."""
    parts = [part for part in path.strip().replace("\\", "/").split("/") if part not in ("", ".")]
    return "/".join(parts[drop:])


def _place(tree: Tree, table: str, path: str) -> tuple[int, str, str] | None:
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


def _choose(header: Sequence[str], asked: str, usual: Sequence[str], option: str, where: str) -> list[int]:
    """The columns that may be meant, the likeliest first. Raises UserError if the one that was asked for does not exist."""
    lower = [name.strip().lower() for name in header]
    if not asked:
        return [lower.index(name) for name in usual if name in lower]
    if asked.strip().lower() not in lower:
        raise UserError(f"{where} has no column {asked!r} ({option}); it has {shortened(header, 8)}")
    return [lower.index(asked.strip().lower())]


def _only(header: Sequence[str], rows: Sequence[Sequence[Any]], columns: Sequence[int], where: str) -> int:
    """The column of the labels. Raises UserError if two columns divide the images differently."""
    first = columns[0]
    for other in columns[1:]:
        pairs = {(str(row[first]), str(row[other])) for row in rows}
        if not len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}):
            raise ambiguous(
                where,
                f"classes by the column {header[first]!r}",
                f"--label-column {header[first]}",
                f"by {header[other]!r}",
                f"--label-column {header[other]}",
            )
    return first


# Text files.


def _records(tree: Tree, name: str) -> tuple[list[str], list[list[Any]], list[int]] | None:
    """(header, rows, their numbers) of a text file; None if it is not a table."""
    with tree.open(name) as handle:
        text = _decoded(handle.read())
    suffix = suffix_of(name)
    if suffix in ("jsonl", "ndjson", "json"):
        return _json_records(text, tree.where(name))
    if suffix in ("txt", "lst"):
        return _list_records(text)
    lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), skipinitialspace=True))
    numbered = [
        (number, [cell.strip() for cell in row])
        for number, row in enumerate(lines, 1)
        if any(map(str.strip, row))
    ]
    if not numbered:
        return None
    header = numbered.pop(0)[1]
    if len(header) == 2 and is_image_name(header[0]):  # there is no header
        numbered.insert(0, (1, header))
        header = ["image", "label"]
    wrong = next(((number, row) for number, row in numbered if len(row) != len(header)), None)
    if wrong is not None and len(header) > 1:
        raise UserError(
            f"{tree.where(name)}, row {wrong[0]}, has {len(wrong[1])} columns, expected {len(header)} as the header has; correct it"
        )
    return header, [row for _, row in numbered], [number for number, _ in numbered]


def _has_open_end(tree: Tree, name: str) -> bool:
    with tree.open(name) as handle:
        return not handle.read().rstrip(b"\0").endswith((b"\n", b"\r"))


def _decoded(data: bytes) -> str:
    """Text in UTF-8, UTF-16 or else Windows' Latin-1."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:4]:
        wide = (
            data
            if data[:2] in (b"\xff\xfe", b"\xfe\xff")
            else (b"\xff\xfe" if data[1:2] == b"\0" else b"\xfe\xff") + data
        )
        return wide.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _delimiter(text: str) -> str:
    """The delimiter that divides the first line into most columns."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return max(",;\t|", key=lambda mark: len(next(csv.reader([first], delimiter=mark), [])))


def _list_records(text: str) -> tuple[list[str], list[list[Any]], list[int]] | None:
    """Lines `PATH LABEL`, as in the lists of Caffe; None for other text."""
    lines = [
        (number, line.strip().rsplit(None, 1))
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip()
    ]
    if not lines or not all(len(pair) == 2 and is_image_name(pair[0]) for _, pair in lines):
        return None
    return ["image", "label"], [pair for _, pair in lines], [number for number, _ in lines]


def _json_records(text: str, where: str) -> tuple[list[str], list[list[Any]], list[int]] | None:
    """Objects with the same keys, one a line or in one list; None for other JSON."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    try:
        whole = json.loads(text)
        objects = list(enumerate(whole, 1)) if isinstance(whole, list) else [(1, whole)]
    except ValueError:
        objects = []
        for number, line in lines:
            try:
                objects.append((number, json.loads(line)))
            except ValueError as error:
                if not objects:
                    return None
                raise UserError(f"{where}, row {number}, is not whole JSON ({error}); correct it") from error
    if not objects or not all(isinstance(value, dict) for _, value in objects):
        return None
    header = list(dict.fromkeys(key for _, value in objects for key in value))
    return (
        header,
        [[value.get(key) for key in header] for _, value in objects],
        [number for number, _ in objects],
    )


# Parquet and Arrow files.


@dataclass(frozen=True)
class _Feature:
    """Description of a column by the library `datasets`."""

    kind: Annotated[str, Field(alias="_type")]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Info:
    # The description of a nested column has another form.
    features: dict[str, Annotated[_Feature | Any, Field(union_mode="left_to_right")]] = field(
        default_factory=dict
    )


@dataclass(frozen=True)
class _Metadata:
    info: _Info = field(default_factory=_Info)


def _has_images(tree: Tree, name: str, options: ReadOptions, labelled: bool) -> bool:
    with _opened(tree, name) as (schema, _):
        return _columns(schema, options, tree.where(name), labelled) is not None


def _read_arrow(
    tree: Tree, name: str, options: ReadOptions, header: list[str], labelled: bool
) -> Table | None:
    """The images of a parquet or Arrow file, batch by batch: a column of more than 2 GiB is never one array."""
    where = tree.where(name)
    images: list[Any] = []
    labels: list[Any] = []
    splits: list[Any] = []
    with _opened(tree, name) as (schema, batches):
        header += schema.names
        columns = _columns(schema, options, where, labelled)
        if columns is None:
            return None
        image, label, split, classes = columns
        for batch in batches([c for c in (image, label if labelled else None, split) if c is not None]):
            images += _images(batch.column(image), where)
            labels += batch.column(label).to_pylist() if labelled else []
            splits += batch.column(split).to_pylist() if split is not None else []
    if classes:
        labels = [
            classes[value] if isinstance(value, int) and 0 <= value < len(classes) else value
            for value in labels
        ]
    numbers = range(1, len(images) + 1)
    return Table(name, images, labels, splits if split is not None else None, numbers, classes, label)


@contextmanager
def _opened(tree: Tree, name: str) -> Iterator[tuple[pa.Schema, Any]]:
    """(schema, function: columns -> batches) of a file. Raises UserError, also for damage that is found while it is read."""
    try:
        with tree.open(name) as handle:
            yield _batches(handle, suffix_of(name))
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{tree.where(name)} cannot be read as {suffix_of(name)} ({reason}); copy or download it again"
        ) from error


def _batches(handle: Any, suffix: str) -> tuple[pa.Schema, Any]:
    if suffix == "parquet":
        file = open_parquet(handle)
        return file.schema_arrow, lambda columns: file.iter_batches(
            _BATCH, columns=columns, use_threads=False
        )
    try:
        reader = pa.ipc.open_stream(handle)
        return reader.schema, lambda _columns: reader
    except pa.ArrowInvalid:
        table = pa.ipc.open_file(handle).read_all()
        return table.schema, lambda columns: table.select(columns).to_batches(_BATCH)


def _columns(
    schema: pa.Schema, options: ReadOptions, where: str, labelled: bool
) -> tuple[str, str, str | None, tuple[str, ...]] | None:
    """(image, label and split column, class names): by the metadata, else by usual names; None if it is no table of images."""
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    features = {n: f for n, f in decode(_Metadata, text).info.features.items() if isinstance(f, _Feature)}

    def candidates(asked: str, kind: str, usual: Sequence[str], option: str) -> list[str]:
        chosen = [schema.names[c] for c in _choose(schema.names, asked, usual, option, where)]
        described = [n for n, f in features.items() if f.kind == kind and n in schema.names and not asked]
        return list(dict.fromkeys([*described, *chosen]))

    images = candidates(options.image_column, "Image", _IMAGE, "--image-column")
    readable = [name for name in images if _may_be_image(schema.field(name).type)]
    labels = candidates(options.label, "ClassLabel", _LABEL, "--label-column")
    labels = [name for name in labels if name not in readable[:1]]
    if not labelled:
        labels = readable[:1]
    if not readable or not labels:
        lists = [name for name in images if pa.types.is_list(schema.field(name).type)]
        if lists and labels:
            raise UserError(
                f"{where}: the column {lists[0]!r} holds lists of numbers, expected encoded images (PNG or JPEG); write them as such"
            )
        return None
    splits = (
        candidates(options.split_column, "", _SPLIT, "--split column:") if options.split != "none" else []
    )
    described = features.get(labels[0])
    return readable[0], labels[0], next(iter(splits), None), described.names if described else ()


def _may_be_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return "bytes" in [item.name for item in kind]
    return (
        re.fullmatch(r"(large_)?(binary|string)(_view)?", str(getattr(kind, "value_type", kind))) is not None
    )


def _images(column: pa.Array, where: str) -> list[Any]:
    """(bytes, path or None) of every image, or its path. Raises UserError if a row has neither."""
    values = column.to_pylist()
    if not pa.types.is_struct(column.type):
        return [(value, None) if isinstance(value, bytes) else value for value in values]
    found: list[Any] = []
    for value in values:
        data, path = (value or {}).get("bytes"), (value or {}).get("path")
        if data is None and path is None:
            raise UserError(f"{where} has a row without an image; remove the rows without images")
        found.append(path if data is None else (data, path))
    return found
