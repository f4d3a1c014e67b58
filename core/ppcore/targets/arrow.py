"""Tables in parquet and Arrow files, with the images inside or with their paths."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

import pyarrow as pa
from pydantic import Field

from ppcore.errors import UserError, first_line
from ppcore.storage import decode, open_table
from ppcore.targets.listing import IMAGE, LABEL, SPLIT, Table, choose
from ppcore.targets.reading import ReadOptions
from ppcore.targets.trees import Tree, suffix_of

ARROW = ("parquet", "arrow")
_BATCH = 256  # rows that are read at once


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


def has_images(tree: Tree, name: str, options: ReadOptions) -> bool:
    """Whether a file has images and labels, by its columns. Raises UserError if it is damaged."""
    with _opened(tree, name) as (schema, _):
        columns = _columns(schema, options, tree.where(name), labelled=True)
        return columns.image is not None and columns.label is not None


def read_arrow(tree: Tree, name: str, options: ReadOptions, *, labelled: bool = True) -> Table:
    """The table in a parquet or Arrow file, read batch by batch: a column of more than 2 GiB is never one array.

    Args:
        labelled: look for labels, too; without a column of labels no image is read.

    Raises:
        UserError: it is damaged, a row has no image, or it lacks a column that was asked for.
    """
    where = tree.where(name)
    images: list[Any] = []
    labels: list[Any] = []
    splits: list[Any] = []
    with _opened(tree, name) as (schema, batches):
        image, label, split, classes = _columns(schema, options, where, labelled)
        if image is None or (labelled and label is None):
            return Table(name, schema.names, lists=image is not None)
        for batch in batches([c for c in (image, label, split) if c is not None]):
            images += _images(batch.column(image), where)
            labels += batch.column(label).to_pylist() if label is not None else []
            splits += batch.column(split).to_pylist() if split is not None else []
    if classes:
        labels = [
            classes[value] if isinstance(value, int) and 0 <= value < len(classes) else value
            for value in labels
        ]
    return Table(
        name,
        schema.names,
        lists=True,
        images=images,
        labels=None if label is None else labels,
        splits=None if split is None else splits,
        numbers=range(1, len(images) + 1),
        classes=classes,
        label_column=label or "",
    )


@contextmanager
def _opened(tree: Tree, name: str) -> Iterator[tuple[pa.Schema, Any]]:
    """(schema, function: columns -> batches) of a file. Raises UserError, also for damage that is found while it is read."""
    try:
        with tree.open(name) as handle:
            yield _batches(handle, suffix_of(name))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(
            f"{tree.where(name)} cannot be read as {suffix_of(name)} ({first_line(error)}); copy or download it again"
        ) from error


def _batches(handle: Any, suffix: str) -> tuple[pa.Schema, Any]:
    if suffix == "parquet":
        file = open_table(handle)
        return file.schema_arrow, lambda columns: file.iter_batches(
            _BATCH, columns=columns, use_threads=False
        )
    try:
        reader = pa.ipc.open_stream(handle)
        return reader.schema, lambda _columns: reader
    except pa.ArrowInvalid:
        table = pa.ipc.open_file(handle).read_all()
        return table.schema, lambda columns: table.select(columns).to_batches(_BATCH)


class _Columns(NamedTuple):
    """The columns of a table, None for those that it lacks, and the class names."""

    image: str | None
    label: str | None
    split: str | None
    classes: tuple[str, ...]


def _columns(schema: pa.Schema, options: ReadOptions, where: str, labelled: bool) -> _Columns:
    """The columns by the metadata of `datasets`, else by their usual names. Raises UserError for images as lists of numbers."""
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    features = {n: f for n, f in decode(_Metadata, text).info.features.items() if isinstance(f, _Feature)}

    def candidates(asked: str, kind: str, usual: Sequence[str], option: str) -> list[str]:
        chosen = [schema.names[c] for c in choose(schema.names, asked, usual, option, where)]
        described = [n for n, f in features.items() if f.kind == kind and n in schema.names and not asked]
        return list(dict.fromkeys([*described, *chosen]))

    images = candidates(options.image_column, "Image", IMAGE, "--image-column")
    readable = [name for name in images if _may_be_image(schema.field(name).type)]
    labels = candidates(options.label, "ClassLabel", LABEL, "--label-column") if labelled else []
    labels = [name for name in labels if name not in readable[:1]]
    lists = [name for name in images if pa.types.is_list(schema.field(name).type)]
    if lists and not readable and (labels or not labelled):
        raise UserError(
            f"{where}: the column {lists[0]!r} holds lists of numbers, expected encoded images (PNG or JPEG); write them as such"
        )
    splits = candidates(options.split_column, "", SPLIT, "--split column:") if options.split != "none" else []
    image, label, split = (next(iter(names), None) for names in (readable, labels, splits))
    described = features.get(label or "")
    return _Columns(image, label, split, described.names if described else ())


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
