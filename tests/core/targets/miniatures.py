"""Miniatures of well-known data sets, each laid out as its makers' archives are: two classes, a few images of 8x8 pixels.

Every image's grey says what it is: 100 a class, 1 an image. `MINIATURES[name](root)` writes one; :data:`SIZES` says how many images it has.
"""

from __future__ import annotations

import gzip
import io
import pickle
import struct
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

SIZES = dict.fromkeys(("cars", "aircraft", "cub", "dtd", "pets", "dogs", "indoor67", "food101"), (2, 4, 2))
SIZES |= {"flowers": (2, 4, 2), "cifar10": (2, 4, 2), "cifar100": (2, 4, 2), "mnist": (2, 4, 2)}
SIZES |= {"caltech256-60": (2, 120, 4), "eurosat": (2, 8, 2)}
"""(classes, training images, test images)."""


def grey(label: int, number: int) -> int:
    return 100 * label + number + 1


def jpg(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value, value, value)).save(path, "JPEG", quality=95)


def lines(path: Path, *rows: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows))


def cars(root: Path) -> None:
    """`devkit/` with its annotations, the labels of the test images beside it."""
    kind = [(name, "O") for name in ("bbox_x1", "class", "fname")]
    for split, numbers, file in (
        ("train", (0, 1), "devkit/cars_train_annos.mat"),
        ("test", (2,), "cars_test_annos_withlabels.mat"),
    ):
        rows = []
        for label in (0, 1):
            for number in numbers:
                name = f"{label}{number:04d}.jpg"
                jpg(root / f"cars_{split}" / name, grey(label, number))
                rows.append((3, label + 1, name))
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        savemat(root / file, {"annotations": np.array(rows, dtype=kind)})
    savemat(root / "devkit/cars_meta.mat", {"class_names": np.array(["Acura RL", "Volvo C30"], dtype=object)})


def cars_one_list(root: Path) -> None:
    """The other of Stanford's two packagings: `car_ims/` and `cars_annos.mat`."""
    kind = [(name, "O") for name in ("relative_im_path", "bbox_x1", "class", "test")]
    rows = []
    for label in (0, 1):
        for number in range(3):
            name = f"car_ims/{label}{number:05d}.jpg"
            jpg(root / name, grey(label, number))
            rows.append((name, 3, label + 1, int(number == 2)))
    names = np.array(["Acura RL", "Volvo C30"], dtype=object)
    savemat(root / "cars_annos.mat", {"annotations": np.array(rows, dtype=kind), "class_names": names})


def aircraft(root: Path) -> None:
    data = root / "fgvc-aircraft-2013b" / "data"
    names = ("707-320", "Boeing 717")
    lines(data / "variants.txt", *names)
    for split, numbers in (("trainval", (0, 1)), ("test", (2,))):
        ids = [(f"{label}{number:06d}", label, number) for number in numbers for label in (0, 1)]
        lines(data / f"images_variant_{split}.txt", *(f"{i} {names[label]}" for i, label, _ in ids))
        for image, label, number in ids:
            jpg(data / "images" / f"{image}.jpg", grey(label, number))


def cub(root: Path) -> None:
    base = root / "CUB_200_2011"
    names = ("001.Black_footed_Albatross", "002.Laysan_Albatross")
    images = [(f"{names[label]}/{number:04d}.jpg", label, number) for label in (0, 1) for number in range(3)]
    lines(base / "classes.txt", *(f"{i} {name}" for i, name in enumerate(names, 1)))
    lines(base / "images.txt", *(f"{i} {file}" for i, (file, _, _) in enumerate(images, 1)))
    lines(base / "image_class_labels.txt", *(f"{i} {row[1] + 1}" for i, row in enumerate(images, 1)))
    lines(base / "train_test_split.txt", *(f"{i} {int(row[2] < 2)}" for i, row in enumerate(images, 1)))
    for file, label, number in images:
        jpg(base / "images" / file, grey(label, number))


def dtd(root: Path) -> None:
    base = root / "dtd" / "dtd"
    for split, number in (("train1", 0), ("val1", 1), ("test1", 2)):
        files = [f"{name}/{name}_{number:04d}.jpg" for name in ("banded", "zigzagged")]
        lines(base / "labels" / f"{split}.txt", *files)
        for label, file in enumerate(files):
            jpg(base / "images" / file, grey(label, number))


def flowers(root: Path) -> None:
    """Image numbers start at 1 and count through all classes; the splits are lists of them."""
    for i in range(6):
        jpg(root / "jpg" / f"image_{i + 1:05d}.jpg", grey(i % 2, i // 2))
    savemat(root / "imagelabels.mat", {"labels": np.array([[1, 2, 1, 2, 1, 2]], dtype=np.uint8)})
    savemat(root / "setid.mat", {"trnid": [[1, 2]], "valid": [[3, 4]], "tstid": [[5, 6]]})


def pets(root: Path) -> None:
    for split, numbers in (("trainval", (0, 1)), ("test", (2,))):
        rows = []
        for label, name in enumerate(("Abyssinian", "american_bulldog")):
            for number in numbers:
                jpg(root / "images" / f"{name}_{number}.jpg", grey(label, number))
                rows.append(f"{name}_{number} {label + 1} {label + 1} 1")
        lines(root / "annotations" / f"{split}.txt", *rows)


def dogs(root: Path) -> None:
    names = ("n02085620-Chihuahua", "n02085782-Japanese_spaniel")
    for split, numbers in (("train", (0, 1)), ("test", (2,))):
        files = [(f"{names[label]}/{names[label]}_{n}.jpg", label, n) for label in (0, 1) for n in numbers]
        table = {
            "file_list": np.array([[file] for file, _, _ in files], dtype=object),
            "annotation_list": np.array([[file[:-4]] for file, _, _ in files], dtype=object),
            "labels": np.array([[label + 1] for _, label, _ in files], dtype=np.uint8),
        }
        for file, label, number in files:
            jpg(root / "Images" / file, grey(label, number))
        savemat(root / f"{split}_list.mat", table)


def indoor67(root: Path) -> None:
    for split, numbers in (("Train", (0, 1)), ("Test", (2,))):
        files = [
            (f"{name}/int{n}.jpg", label, n)
            for label, name in enumerate(("airport_inside", "winecellar"))
            for n in numbers
        ]
        lines(root / f"{split}Images.txt", *(file for file, _, _ in files))
        for file, label, number in files:
            jpg(root / "Images" / file, grey(label, number))
    jpg(root / "Images" / "winecellar" / "unlisted.jpg", 255)


def food101(root: Path) -> None:
    base = root / "food-101"
    for split, numbers in (("train", (0, 1)), ("test", (2,))):
        files = [
            (f"{name}/{n}", label, n) for label, name in enumerate(("apple_pie", "waffles")) for n in numbers
        ]
        lines(base / "meta" / f"{split}.txt", *(file for file, _, _ in files))
        for file, label, number in files:
            jpg(base / "images" / f"{file}.jpg", grey(label, number))


def caltech256(root: Path) -> None:
    """62 images a class, the clutter that is no class, and the stray files of the real archive."""
    base = root / "256_ObjectCategories"
    for label, name in enumerate(("001.ak47", "002.american-flag")):
        for number in range(62):
            jpg(base / name / f"{label + 1:03d}_{number + 1:04d}.jpg", grey(label, number))
    jpg(base / "257.clutter" / "257_0001.jpg", 255)
    lines(base / "001.ak47" / "RENAME2", "a script")
    jpg(base / "002.american-flag" / "greg" / "copy.jpg", 255)


def eurosat(root: Path) -> None:
    for label, name in enumerate(("AnnualCrop", "SeaLake")):
        for number in range(5):
            jpg(root / "eurosat" / "2750" / name / f"{name}_{number + 1}.jpg", grey(label, number))


def _cifar_batch(file: Path, key: str, numbers: tuple[int, ...]) -> None:
    """Protocol 2, as Python 2 wrote them."""
    pairs = [(label, number) for number in numbers for label in (0, 1)]
    data = np.stack([np.full(3072, grey(*pair), dtype=np.uint8) for pair in pairs])
    file.write_bytes(pickle.dumps({"data": data, key: [label for label, _ in pairs]}, protocol=2))


def cifar10(root: Path) -> None:
    base = root / "cifar-10-batches-py"
    base.mkdir(parents=True)
    _cifar_batch(base / "data_batch_1", "labels", (0,))
    _cifar_batch(base / "data_batch_2", "labels", (1,))
    _cifar_batch(base / "test_batch", "labels", (2,))
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": ["airplane", "automobile"]}, protocol=2))


def cifar100(root: Path) -> None:
    base = root / "cifar-100-python"
    base.mkdir(parents=True)
    _cifar_batch(base / "train", "fine_labels", (0, 1))
    _cifar_batch(base / "test", "fine_labels", (2,))
    names = {"fine_label_names": ["apple", "aquarium_fish"], "coarse_label_names": ["fruit"]}
    (base / "meta").write_bytes(pickle.dumps(names, protocol=2))


def mnist(root: Path) -> None:
    """The training files gzipped, as they are downloaded; the test files unpacked."""
    base = root / "MNIST" / "raw"
    base.mkdir(parents=True)
    for name, numbers, end in (("train", (0, 1), ".gz"), ("t10k", (2,), "")):
        pairs = [(label, number) for number in numbers for label in (0, 1)]
        images = b"".join(bytes([grey(*pair)]) * 784 for pair in pairs)
        head = struct.pack(">HBB", 0, 8, 3) + struct.pack(">3I", len(pairs), 28, 28)
        labels = struct.pack(">HBBI", 0, 8, 1, len(pairs)) + bytes(label for label, _ in pairs)
        for what, data in (("images-idx3", head + images), ("labels-idx1", labels)):
            packed = gzip.compress(data) if end else data
            (base / f"{name}-{what}-ubyte{end}").write_bytes(packed)


MINIATURES = {
    "cars": cars,
    "aircraft": aircraft,
    "cub": cub,
    "dtd": dtd,
    "flowers": flowers,
    "pets": pets,
    "dogs": dogs,
    "indoor67": indoor67,
    "caltech256-60": caltech256,
    "food101": food101,
    "eurosat": eurosat,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "mnist": mnist,
}


def png(value: int, size: tuple[int, int] = (8, 8)) -> bytes:
    """A grey image."""
    buffer = io.BytesIO()
    Image.new("L", size, value).save(buffer, "PNG")
    return buffer.getvalue()
