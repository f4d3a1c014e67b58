"""Reads a target from files: chooses the reader, and the files of the training and test split."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from ppcore.errors import UserError
from ppcore.images import IMAGE_EXTENSIONS
from ppcore.storage import decode, open_table
from ppcore.targets.folders import SHADOW, has_classes, read_folder
from ppcore.targets.layouts import read_layout
from ppcore.targets.pixels import encoded_set
from ppcore.targets.tables import TABLES, find_tables, read_tables
from ppcore.targets.target import FileReader, ImageSet, Splits, sort_files

_HUB = "hf://datasets/"


def read_files(spec: str, patterns: Sequence[str] = ("*.parquet",)) -> Splits:
    """Read a folder, a file, a hub data set or `train=GLOB,test=GLOB` (see :func:`ppcore.targets.load.load_target`).

    Args:
        patterns: the files of a hub data set to download.
    """
    if spec.startswith("train="):
        return _read_patterns(spec)
    path = Path(_download(spec, patterns) if spec.startswith(_HUB) else spec)
    if path.is_file():
        return _read_splits([str(path)], [], spec)
    if not path.is_dir():
        raise UserError(
            f"unknown target {spec!r}: it is neither a known name (ppgen targets lists them) nor an existing folder or file; "
            f"give an image folder, a parquet file or a folder of parquet files"
        )
    return _read_directory(path)


def _read_directory(root: Path) -> Splits:
    """Read a folder: a layout of a well-known data set, else parquet files or tars, else CSV files, else class folders."""
    known = read_layout(root)
    if known is not None:
        return known
    for suffix in READERS:
        files = sorted(str(f) for f in root.rglob(f"*{suffix}") if not f.name.startswith(SHADOW))
        if files:
            return _read_sorted(files, str(root))
    tables = find_tables(root)
    if tables and not has_classes(root):
        return _read_sorted(tables, str(root))
    return read_folder(root)


def _read_sorted(files: list[str], spec: str) -> Splits:
    train, test, others = sort_files(files)
    splits = _read_splits(train, test, spec)
    if not others:
        return splits
    names = ", ".join(sorted(Path(file).name for file in others)[:3])
    note = f"{len(others)} files of other splits are not used ({names})"
    return splits._replace(notes=(*splits.notes, note))


def _read_patterns(spec: str) -> Splits:
    """Read `train=GLOB` or `train=GLOB,test=GLOB`."""
    given = dict(part.partition("=")[::2] for part in spec.split(","))
    if set(given) - {"train", "test"}:
        raise UserError(f"target {spec!r} has unknown parts; write train=GLOB or train=GLOB,test=GLOB")
    train, test = sorted(glob(given["train"])), sorted(glob(given.get("test", "")))
    if not train or ("test" in given and not test):
        raise UserError(f"target {spec!r} matches no files; check the patterns")
    return _read_splits(train, test, spec)


def _read_splits(train_files: Sequence[str], test_files: Sequence[str], spec: str) -> Splits:
    if not train_files:
        raise UserError(
            f"target {spec!r} has test files but no training files; call the training files train*"
        )
    suffix = Path(train_files[0]).suffix.lower()
    if suffix in TABLES:
        return read_tables(train_files, test_files)
    read = READERS.get(suffix, read_parquet)
    train, classes = read(train_files)
    test = read(test_files)[0] if test_files else None
    top = max(int(images.labels.max(initial=-1)) for images in (train, test) if images is not None)
    low = min(int(images.labels.min(initial=0)) for images in (train, test) if images is not None)
    classes = classes or tuple(str(c) for c in range(top + 1))
    if top >= len(classes) or low < 0:
        raise UserError(
            f"target {spec!r} has labels from {low} to {top}, expected 0 to {len(classes) - 1}; remove unlabelled rows"
        )
    return Splits(train, test, classes)


def _download(spec: str, patterns: Sequence[str]) -> str:
    """Download `hf://datasets/ORG/NAME@REVISION`. Returns the local folder."""
    from huggingface_hub import snapshot_download  # slow to import

    name, _, revision = spec.removeprefix(_HUB).partition("@")
    try:
        return snapshot_download(
            name, repo_type="dataset", revision=revision or None, allow_patterns=list(patterns)
        )
    except Exception as error:  # the hub library raises many types
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"the data set {name} cannot be downloaded from the hub ({reason}); put a local copy (class folders or parquet) in "
            f"data/{name.rsplit('/', 1)[-1].removeprefix('stanford_')} or give its path as the target"
        ) from error


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


READERS: dict[str, FileReader] = {".parquet": read_parquet, ".tar": read_tars}
"""Suffix -> reader; see also :data:`ppcore.targets.tables.TABLES`."""
