"""Image folders: `<class>/<image>`, or `train/<class>/<image>` and `test/<class>/<image>`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ppcore.errors import UserError
from ppcore.images import IMAGE_EXTENSIONS
from ppcore.targets.pixels import decode_image
from ppcore.targets.splits import TEST_NAMES, TRAIN_NAMES
from ppcore.targets.target import ImageSet, Splits


def read_folder(root: Path) -> Splits:
    """Every image below `root`; a class is a folder. Raises UserError when there are none."""
    train_root, test_root = _first_folder(root, TRAIN_NAMES), _first_folder(root, TEST_NAMES)
    classes = _class_folders(train_root or root)
    train = _images(root, train_root or root, classes)
    if train_root is None or test_root is None:
        return Splits(train, None, tuple(classes))
    unknown = sorted(set(_class_folders(test_root)) - set(classes))
    if unknown:
        raise UserError(
            f"{test_root} has classes {unknown} that {train_root} lacks; the class folders of both must agree"
        )
    return Splits(train, _images(root, test_root, classes), tuple(classes))


def _first_folder(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


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


def _images(base: Path, root: Path, classes: list[str]) -> ImageSet:
    """The images of `root`, named relative to `base`."""
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        members = sorted(f for f in (root / name).rglob("*") if _is_image(f))
        files.extend(members)
        labels.extend([label] * len(members))
    return ImageSet(
        [str(file.relative_to(base)) for file in files],
        np.array(labels, dtype=np.int64),
        lambda p: decode_image(files[p].read_bytes(), str(files[p])),
    )


def _is_image(path: Path) -> bool:
    return path.is_file() and path.suffix.lower().lstrip(".") in IMAGE_EXTENSIONS
