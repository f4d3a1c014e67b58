"""Data sets whose splits are MATLAB files: Stanford Cars, Stanford Dogs, Oxford Flowers-102."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ppcore.errors import UserError
from ppcore.targets.layouts.lists import Row, listed_splits
from ppcore.targets.target import Splits


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
