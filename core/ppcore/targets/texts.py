"""Tables in text files: CSV in any dialect, JSON lines, JSON lists, lists of paths and labels."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from ppcore.errors import UserError
from ppcore.targets.listing import IMAGE, LABEL, SPLIT, Table, choose, find_file
from ppcore.targets.reading import ReadOptions, ambiguous
from ppcore.targets.trees import Tree, is_image_name, suffix_of

TEXTS = ("csv", "tsv", "jsonl", "ndjson", "json", "txt", "lst")
_JSON = ("jsonl", "ndjson", "json")


class _Records(NamedTuple):
    """The rows of a text file, and their numbers in it."""

    header: list[str]
    rows: Sequence[list[Any]]
    numbers: list[int]


def read_text(tree: Tree, name: str, options: ReadOptions, *, labelled: bool = True) -> Table | None:
    """The table in a text file; None if it holds none.

    Args:
        labelled: look for labels, too.

    Raises:
        UserError: it is damaged, it lacks a column that was asked for, or two of its columns could be the labels.
    """
    with tree.open(name) as handle:
        text = _decoded(handle.read())
    records = _records(text, suffix_of(name), tree.where(name))
    if records is None:
        return None
    header, rows, numbers = records
    where = tree.where(name)
    images = choose(header, options.image_column, IMAGE, "--image-column", where)
    found = [c for c in images if rows and find_file(tree, name, str(rows[0][c] or "")) is not None]
    place = next(iter([*found, *images]), None)
    labels = [c for c in choose(header, options.label, LABEL, "--label-column", where) if c != place]
    label = _only(header, rows, labels, where) if labelled and labels and place is not None else None
    splits = choose(header, options.split_column, SPLIT, "--split column:", where)
    split = next(iter(splits), None) if options.split != "none" else None

    def column(number: int | None) -> list[Any] | None:
        return None if number is None else [row[number] for row in rows]

    return Table(
        name,
        header,
        lists=bool(found),
        images=column(place),
        labels=column(label),
        splits=column(split),
        numbers=numbers,
        label_column="" if label is None else header[label],
        open_end=suffix_of(name) not in _JSON and not text.endswith(("\n", "\r")),
    )


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


def _records(text: str, suffix: str, where: str) -> _Records | None:
    """The records of a text file; None if it is not a table."""
    if suffix in _JSON:
        return _json_records(text, where)
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
            f"{where}, row {wrong[0]}, has {len(wrong[1])} columns, expected {len(header)} as the header has; correct it"
        )
    return _Records(header, [row for _, row in numbered], [number for number, _ in numbered])


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


def _list_records(text: str) -> _Records | None:
    """Lines `PATH LABEL`, as in the lists of Caffe; None for other text."""
    lines = [
        (number, line.strip().rsplit(None, 1))
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip()
    ]
    if not lines or not all(len(pair) == 2 and is_image_name(pair[0]) for _, pair in lines):
        return None
    return _Records(["image", "label"], [pair for _, pair in lines], [number for number, _ in lines])


def _json_records(text: str, where: str) -> _Records | None:
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
    rows = [[value.get(key) for key in header] for _, value in objects]
    return _Records(header, rows, [number for number, _ in objects])
