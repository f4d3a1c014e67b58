"""Data sets whose images are arrays: CIFAR's pickled batches, MNIST's idx files."""

from __future__ import annotations

import gzip
import pickle
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ppcore.errors import UserError
from ppcore.targets.layouts.lists import Row, listed_splits
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


def read_cars_devkit(root: Path) -> Splits | None:
    """Stanford Cars as `cars_train/`, `cars_test/` and `devkit/`; the labels of the test images are in a separate file."""
    train, meta = root / "devkit/cars_train_annos.mat", root / "devkit/cars_meta.mat"
    if not train.is_file() or not meta.is_file():
        return None
    places = [folder / "cars_test_annos_withlabels.mat" for folder in (root, root / "devkit")]
    test = next((file for file in places if file.is_file()), None)
    if test is None:
        raise UserError(
            f"{places[0].name} is missing below {root}: the devkit's own list of test images has no labels; put that file beside devkit/"
        )
    rows = []
    for folder, file in (("cars_train", train), ("cars_test", test)):
        listed = np.atleast_1d(_field(file, "annotations"))
        rows.append([Row(f"{folder}/{fname}", int(c) - 1) for fname, c in _columns(listed, "fname", "class")])
    return listed_splits(root, ".", rows[0], rows[1], _names(meta))


def read_cars(root: Path) -> Splits | None:
    """Stanford Cars as `car_ims/` and one `cars_annos.mat`, which marks the test images."""
    file = next((f for f in (root / "cars_annos.mat", root / "devkit/cars_annos.mat") if f.is_file()), None)
    if file is None or not (root / "car_ims").is_dir():
        return None
    rows: tuple[list[Row], list[Row]] = ([], [])
    listed = np.atleast_1d(_field(file, "annotations"))
    for image, label, test in _columns(listed, "relative_im_path", "class", "test"):
        rows[int(test)].append(Row(str(image), int(label) - 1))
    return listed_splits(root, ".", rows[0], rows[1], _names(file))


def read_dogs(root: Path) -> Splits | None:
    """Stanford Dogs as `Images/`, `train_list.mat` and `test_list.mat`; a folder is called WNID-CLASS."""
    lists = [root / "train_list.mat", root / "test_list.mat"]
    if not all(file.is_file() for file in lists) or not (root / "Images").is_dir():
        return None
    rows = []
    names: dict[int, str] = {}
    for file in lists:
        files, labels = (np.atleast_1d(_field(file, name)) for name in ("file_list", "labels"))
        rows.append([Row(str(f), int(c) - 1) for f, c in zip(files, labels, strict=True)])
        names |= {row.label: row.file.split("/")[0].partition("-")[2] for row in rows[-1]}
    return listed_splits(root, "Images", rows[0], rows[1], [names[label] for label in sorted(names)])


def read_flowers(root: Path) -> Splits | None:
    """Flowers-102 as `jpg/`, `imagelabels.mat` and `setid.mat`; training and validation images, 20 a class, are used for training."""
    labels_file, sets = root / "imagelabels.mat", root / "setid.mat"
    if not labels_file.is_file() or not sets.is_file() or not (root / "jpg").is_dir():
        return None
    labels = np.atleast_1d(_field(labels_file, "labels")).astype(np.int64) - 1
    parts = [
        np.concatenate([np.atleast_1d(_field(sets, name)) for name in names])
        for names in (("trnid", "valid"), ("tstid",))
    ]
    if max(int(part.max(initial=0)) for part in parts) > len(labels):
        raise UserError(f"{sets} lists images without labels in {labels_file}; download both again")
    rows = [[Row(f"image_{int(i):05d}.jpg", int(labels[int(i) - 1])) for i in part] for part in parts]
    return listed_splits(root, "jpg", rows[0], rows[1], _flower_names(int(labels.max(initial=0)) + 1))


def _flower_names(count: int) -> list[str]:
    """The class names; the archives do not contain them, torchvision does."""
    from torchvision.datasets import Flowers102  # slow to import

    return [*Flowers102.classes, *(f"flower {n}" for n in range(len(Flowers102.classes) + 1, count + 1))][
        :count
    ]


def _field(file: Path, name: str) -> Any:
    """Read one variable of a MATLAB file. Raises UserError."""
    from scipy.io import loadmat  # slow to import

    try:
        return loadmat(file, squeeze_me=True)[name]
    except Exception as error:  # a damaged file may raise any type
        raise UserError(
            f"{file} cannot be read as a MATLAB file with {name!r} ({type(error).__name__}: {error}); download it again"
        ) from error


def _columns(table: np.ndarray, *names: str) -> Iterable[tuple[Any, ...]]:
    if table.dtype.names is None or not set(names) <= set(table.dtype.names):
        raise UserError(
            f"the annotations have the columns {table.dtype.names}, expected {names}; download them again"
        )
    return zip(*(table[name] for name in names), strict=True)


def _names(file: Path) -> list[str]:
    return [str(name) for name in np.atleast_1d(_field(file, "class_names"))]
