"""Targets in archives: Hugging Face image data sets in parquet, and WebDataset tars of `<key>.<image>` and `<key>.cls` (an integer)."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from ppcore.errors import UserError
from ppcore.images import IMAGE_EXTENSIONS
from ppcore.storage import decode, open_table
from ppcore.targets.pixels import encoded_set
from ppcore.targets.target import ImageSet

_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "fine_label", "labels", "cls")


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


def read_parquet(files: Sequence[str]) -> tuple[ImageSet, tuple[str, ...]]:
    """All images of the parquet files, kept encoded in memory; the class names are those of the first file."""
    ids: list[str] = []
    blobs: list[bytes] = []
    labels: list[np.ndarray] = []
    classes: tuple[str, ...] = ()
    for file in files:
        try:
            image, label, names = _columns(pq.read_schema(file), file)
            table = open_table(file).read(columns=[image, label], use_threads=False)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UserError(
                f"{file} cannot be read as parquet ({error}); expected a Hugging Face image data set"
            ) from error
        classes = classes or names
        column = table.column(image).combine_chunks()
        column = column.field("bytes") if pa.types.is_struct(column.type) else column
        ids.extend(f"{Path(file).stem}-{i:06d}" for i in range(len(table)))
        blobs.extend(value.as_py() or b"" for value in column)
        labels.append(table.column(label).to_numpy().astype(np.int64))
    merged = np.concatenate(labels) if labels else np.zeros(0, dtype=np.int64)
    return encoded_set(ids, merged, blobs), classes


def _columns(schema: pa.Schema, file: str) -> tuple[str, str, tuple[str, ...]]:
    """(image column, label column, class names or ()): from the metadata, else by usual column names."""
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    features = {n: f for n, f in decode(_Metadata, text).info.features.items() if isinstance(f, _Feature)}
    images = [n for n, f in features.items() if f.kind == "Image"]
    images += [n for n in _IMAGE_COLUMNS if n in schema.names]
    labels = [n for n, f in features.items() if f.kind == "ClassLabel"]
    labels += [n for n in _LABEL_COLUMNS if n in schema.names]
    if not images or not labels:
        raise UserError(f"{file} has columns {schema.names}, expected an image and a label column")
    return images[0], labels[0], features[labels[0]].names if labels[0] in features else ()


def read_tars(files: Sequence[str]) -> tuple[ImageSet, tuple[str, ...]]:
    """All images of the tars, kept encoded in memory; tars have no class names."""
    ids: list[str] = []
    blobs: list[bytes] = []
    labels: list[int] = []
    for file in files:
        for key, image, label in _labelled_images(file):
            ids.append(f"{Path(file).stem}/{key}")
            blobs.append(image)
            labels.append(label)
    return encoded_set(ids, labels, blobs), ()


def _labelled_images(file: str) -> Iterator[tuple[str, bytes, int]]:
    """(key, encoded image, label) of every image."""
    images: dict[str, bytes] = {}
    labels: dict[str, int] = {}
    try:
        with tarfile.open(file) as archive:
            for member in archive:
                handle = archive.extractfile(member) if member.isfile() else None
                folder, _, base = member.name.rpartition("/")
                key, _, extension = base.partition(".")
                if handle is None or not key:
                    continue
                if extension.lower() in IMAGE_EXTENSIONS:
                    images[f"{folder}/{key}"] = handle.read()
                elif extension == "cls":
                    labels[f"{folder}/{key}"] = int(handle.read())
    except (tarfile.TarError, OSError, ValueError) as error:
        raise UserError(
            f"{file} cannot be read as a WebDataset tar ({error}); expected <key>.jpg and <key>.cls members"
        ) from error
    for key, image in images.items():
        if key not in labels:
            raise UserError(
                f"{file}: image {key.lstrip('/')!r} has no .cls label; every image of a target needs one"
            )
        yield key.lstrip("/"), image, labels[key]
