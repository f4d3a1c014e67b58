"""How each kind of target file is read; :mod:`ppcore.targets.table` decides what is training and what is test."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from glob import glob
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ppcore.errors import UserError
from ppcore.images import IMAGE_EXTENSIONS, decode
from ppcore.storage import open_table

_TRAIN_NAMES = ("train", "training")
_TEST_NAMES = ("test", "val", "validation", "valid")
_SMALL_SIDE = 2  # smaller than this is no picture


class Rows(NamedTuple):
    """One split: names, int64 (N,) labels, and position -> uint8 (H, W, C)."""

    ids: list[str]
    labels: np.ndarray
    load: Callable[[int], np.ndarray]

    def select(self, positions: np.ndarray) -> Rows:
        load = self.load
        return Rows(
            [self.ids[p] for p in positions], self.labels[positions], lambda p: load(int(positions[p]))
        )


Splits = tuple[Rows, Rows | None, list[str]]


def read_digits() -> Splits:
    """scikit-learn's 1,797 handwritten digits (Alpaydin & Kaynak 1998, UCI, 8x8, 16 grey levels), enlarged to 32x32.

    One pixel of padding, then bicubic; 900 images held out for test by a fixed permutation.
    """
    images, labels = _digits()
    order = np.random.default_rng(0).permutation(len(labels))
    test, train = np.sort(order[:900]), np.sort(order[900:])
    rows = Rows([f"digits-{i:04d}" for i in range(len(labels))], labels, lambda p: images[p])
    return rows.select(train), rows.select(test), [str(d) for d in range(10)]


@lru_cache(maxsize=1)
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image
    from sklearn.datasets import load_digits

    data = load_digits()
    small = np.pad(np.round(data.images * 255 / 16).astype(np.uint8), ((0, 0), (1, 1), (1, 1)))
    large = [np.asarray(Image.fromarray(i).resize((32, 32), Image.Resampling.BICUBIC)) for i in small]
    return np.stack(large)[:, :, :, None], data.target.astype(np.int64)


def read_files(spec: str) -> Splits:
    """Folder, parquet, tars, hub dataset or `train=GLOB,test=GLOB` (see :func:`ppcore.targets.table.load_target`)."""
    if spec.startswith("hf://datasets/"):
        spec = _download(spec)
    if spec.startswith("train="):
        given = dict(part.partition("=")[::2] for part in spec.split(","))
        if set(given) - {"train", "test"}:
            raise UserError(f"target {spec!r} has unknown parts; write train=GLOB or train=GLOB,test=GLOB")
        train_files, test_files = sorted(glob(given["train"])), sorted(glob(given.get("test", "")))
        if not train_files or ("test" in given and not test_files):
            raise UserError(f"target {spec!r} matches no files; check the patterns")
        return _read_tables(train_files, test_files, spec)
    path = Path(spec)
    if path.is_file():
        return _read_tables([str(path)], [], spec)
    if not path.is_dir():
        raise UserError(
            f"unknown target {spec!r}: it is neither a known name (digits, cars) nor an existing folder or file; "
            f"give an image folder, a parquet file or a folder of them"
        )
    for suffix in (".parquet", ".tar"):
        files = sorted(str(f) for f in path.rglob(f"*{suffix}"))
        if files:
            test = [
                f for f in files if Path(f).name.startswith(_TEST_NAMES) or Path(f).parent.name in _TEST_NAMES
            ]
            return _read_tables([f for f in files if f not in test], test, spec)
    return _read_folder(path)


def _download(spec: str) -> str:
    """`hf://datasets/ORG/NAME@REVISION` -> local folder of its parquet files."""
    from huggingface_hub import snapshot_download

    name, _, revision = spec.removeprefix("hf://datasets/").partition("@")
    try:
        return snapshot_download(
            name, repo_type="dataset", revision=revision or None, allow_patterns=["*.parquet"]
        )
    except Exception as error:  # the hub library raises a dozen types, all of them "could not be had"
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"the data set {name} could not be had from the hub ({reason}); put a local copy (class folders or parquet) in "
            f"data/{name.rsplit('/', 1)[-1].removeprefix('stanford_')} or give its path as the target"
        ) from error


def _read_folder(root: Path) -> Splits:
    train_root = next((root / name for name in _TRAIN_NAMES if (root / name).is_dir()), None)
    if train_root is None:
        classes = _class_folders(root)
        return _folder_rows(root, root, classes), None, classes
    classes = _class_folders(train_root)
    test_root = next((root / name for name in _TEST_NAMES if (root / name).is_dir()), None)
    if test_root is None:
        return _folder_rows(root, train_root, classes), None, classes
    unknown = sorted(set(_class_folders(test_root)) - set(classes))
    if unknown:
        raise UserError(
            f"{test_root} has classes {unknown} that {train_root} lacks; the class folders of both must agree"
        )
    return _folder_rows(root, train_root, classes), _folder_rows(root, test_root, classes), classes


def _class_folders(root: Path) -> list[str]:
    found = sorted(
        entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
    classes = [name for name in found if any(_is_image(f) for f in (root / name).rglob("*"))]
    if not classes:
        raise UserError(
            f"target {root} is empty: it has no class folders with images; expected {root}/<class>/<image>.png"
        )
    return classes


def _folder_rows(base: Path, root: Path, classes: list[str]) -> Rows:
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        members = (
            sorted(f for f in (root / name).rglob("*") if _is_image(f)) if (root / name).is_dir() else []
        )
        files.extend(members)
        labels.extend([label] * len(members))
    ids = [str(f.relative_to(base)) for f in files]
    return Rows(
        ids, np.array(labels, dtype=np.int64), lambda p: _decode(files[p].read_bytes(), str(files[p]))
    )


def _is_image(path: Path) -> bool:
    return path.is_file() and path.suffix.lower().lstrip(".") in IMAGE_EXTENSIONS


def _read_tables(train_files: list[str], test_files: list[str], spec: str) -> Splits:
    if not train_files:
        raise UserError(f"target {spec!r} has test files but no training files; name one of them train*")
    read = _read_tars if train_files[0].endswith(".tar") else _read_parquets
    train, classes = read(train_files)
    test = read(test_files)[0] if test_files else None
    top = max(int(rows.labels.max(initial=-1)) for rows in (train, test) if rows is not None)
    classes = classes or [str(c) for c in range(top + 1)]
    low = min(int(rows.labels.min(initial=0)) for rows in (train, test) if rows is not None)
    if top >= len(classes) or low < 0:
        raise UserError(
            f"target {spec!r} has labels from {low} to {top}, expected 0 to {len(classes) - 1}; remove unlabelled rows"
        )
    return train, test, classes


def _read_parquets(files: list[str]) -> tuple[Rows, list[str]]:
    """Hugging Face image layout: struct<bytes, path> and int64 labels; class names in the schema's metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    blobs: list[bytes] = []
    labels: list[np.ndarray] = []
    ids: list[str] = []
    classes: list[str] = []
    for file in files:
        try:
            schema = pq.read_schema(file)
            image, label, names = _parquet_columns(schema, file)
            table = open_table(str(file)).read(columns=[image, label], use_threads=False)
        except (pa.ArrowException, OSError) as error:
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
    return Rows(ids, merged, lambda p: _decode(blobs[p], ids[p])), classes


def _parquet_columns(schema: Any, file: str) -> tuple[str, str, list[str]]:
    """(image column, label column, class names or [])."""
    features: dict[str, Any] = {}
    if schema.metadata and b"huggingface" in schema.metadata:
        features = json.loads(schema.metadata[b"huggingface"]).get("info", {}).get("features", {})
    images = [n for n, f in features.items() if f.get("_type") == "Image"] + [
        n for n in ("image", "img") if n in schema.names
    ]
    labels = [n for n, f in features.items() if f.get("_type") == "ClassLabel"]
    labels += [n for n in ("label", "fine_label", "labels", "cls") if n in schema.names]
    if not images or not labels:
        raise UserError(
            f"{file} has columns {schema.names}, expected an image and a label column; it is no image data set"
        )
    return images[0], labels[0], [str(n) for n in features.get(labels[0], {}).get("names", [])]


def _read_tars(files: list[str]) -> tuple[Rows, list[str]]:
    """WebDataset tars of `<key>.<image>` and `<key>.cls` (an integer)."""
    blobs: list[bytes] = []
    labels: list[int] = []
    ids: list[str] = []
    for file in files:
        for key, image, label in _tar_pairs(file):
            ids.append(f"{Path(file).stem}/{key}")
            blobs.append(image)
            labels.append(label)
    return Rows(ids, np.array(labels, dtype=np.int64), lambda p: _decode(blobs[p], ids[p])), []


def _tar_pairs(file: str) -> Iterator[tuple[str, bytes, int]]:
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


def _decode(data: bytes, name: str) -> np.ndarray:
    try:
        image = decode(data)
    except ValueError as error:
        raise UserError(f"target image {name} is damaged ({error}); repair or remove it") from error
    if min(image.shape[:2]) < _SMALL_SIDE:
        raise UserError(f"target image {name} is only {image.shape[1]}x{image.shape[0]} pixels; remove it")
    return image
