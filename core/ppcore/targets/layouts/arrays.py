"""Data sets whose images are arrays: CIFAR's pickled batches, MNIST's idx files."""

from __future__ import annotations

import gzip
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ppcore.errors import UserError
from ppcore.targets.pixels import array_set
from ppcore.targets.target import ImageSet, Splits

_SIDE = 32
_ARRAYS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}
"""What a pickled array names. A pickle that names anything else is refused, because loading would run it."""


def read_cifar(root: Path) -> Splits | None:
    """CIFAR-10 (`data_batch_*`, `test_batch`, `batches.meta`) or CIFAR-100 (`train`, `test`, `meta`) for Python."""
    if (root / "batches.meta").is_file():
        train, test, meta = sorted(root.glob("data_batch_*")), root / "test_batch", root / "batches.meta"
    else:
        train, test, meta = [root / "train"], root / "test", root / "meta"
    if not all(file.is_file() for file in (*train, test, meta)):
        return None
    names = _unpickle(meta)
    classes = names.get("fine_label_names", names.get("label_names"))
    if not isinstance(classes, list):
        raise UserError(f"{meta} names no classes; unpack the data set again")
    return Splits(_batches(train), _batches([test]), tuple(str(name) for name in classes))


def read_mnist(root: Path) -> Splits | None:
    """MNIST and data sets in its format: `train-images-idx3-ubyte` and three more files, gzipped or not."""
    parts = []
    for split, name in (("train", "train"), ("test", "t10k")):
        images, labels = (_idx_file(root, f"{name}-{what}") for what in ("images-idx3", "labels-idx1"))
        if images is None or labels is None:
            return None
        pixels, classes = _read_idx(images), _read_idx(labels)
        if pixels.ndim != 3 or classes.ndim != 1 or len(pixels) != len(classes):
            raise UserError(f"{images} and {labels} do not fit together; download both again")
        ids = [f"{split}-{i:05d}" for i in range(len(classes))]
        parts.append(array_set(ids, classes, pixels[:, :, :, None]))
    top = max(int(part.labels.max(initial=0)) for part in parts)
    return Splits(parts[0], parts[1], tuple(str(c) for c in range(top + 1)))


def _batches(files: list[Path]) -> ImageSet:
    ids: list[str] = []
    arrays: list[np.ndarray] = []
    labels: list[int] = []
    for file in files:
        batch = _unpickle(file)
        data, classes = batch.get("data"), batch.get("fine_labels", batch.get("labels"))
        if not isinstance(data, np.ndarray) or not isinstance(classes, list) or data.dtype != np.uint8:
            raise UserError(f"{file} holds no images and labels; unpack the data set again")
        if data.shape != (len(classes), 3 * _SIDE * _SIDE):
            raise UserError(f"{file} holds no images of {_SIDE}x{_SIDE} pixels; unpack the data set again")
        ids += [f"{file.name}-{i:05d}" for i in range(len(classes))]
        arrays.append(data.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1))
        labels += classes
    return array_set(ids, np.array(labels, dtype=np.int64), np.concatenate(arrays))


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Look up what a pickle names."""
        if (module, name) not in _ARRAYS:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which would run")
        return super().find_class(module, name)


def _unpickle(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as handle:
            batch = _ArraysOnly(handle, encoding="latin1").load()
    except Exception as error:  # a damaged pickle may raise any type
        raise UserError(
            f"{file} cannot be read as a batch of CIFAR ({error}); unpack the data set again"
        ) from error
    if not isinstance(batch, dict):
        raise UserError(f"{file} cannot be read as a batch of CIFAR (no table); unpack the data set again")
    return batch


def _idx_file(root: Path, name: str) -> Path | None:
    endings = ("-ubyte", "-ubyte.gz", ".ubyte", ".ubyte.gz")
    return next((root / f"{name}{end}" for end in endings if (root / f"{name}{end}").is_file()), None)


def _read_idx(file: Path) -> np.ndarray:
    """Read a uint8 array: a magic number, the sizes (big endian), the values. Only as many bytes as the sizes say are unpacked."""
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as handle:
            zeros, kind, dimensions = struct.unpack(">HBB", handle.read(4))
            shape = struct.unpack(f">{dimensions}I", handle.read(4 * dimensions))
            count = int(np.prod(shape, dtype=np.uint64))
            if zeros or kind != 8 or count > 1 << 31:
                raise ValueError("not an array of bytes")
            return np.frombuffer(handle.read(count), dtype=np.uint8).reshape(shape)
    except (OSError, ValueError, struct.error, zlib.error, EOFError) as error:
        raise UserError(f"{file} cannot be read as an idx file ({error}); download it again") from error
