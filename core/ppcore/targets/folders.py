"""Image folders: `<class>/<image>`, or `train/<class>/<image>` beside `test/`, `val/` or the like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ppcore.errors import UserError
from ppcore.images import IMAGE_EXTENSIONS
from ppcore.targets.pixels import encoded_set
from ppcore.targets.target import TEST_NAMES, TRAIN_NAMES, ImageSet, Splits

SHADOW = "._"
"""macOS writes files with such names beside others on foreign disks; they hold no data."""


def read_folder(root: Path) -> Splits:
    """Every image below `root`; a class is a folder. Raises UserError if there are no images."""
    root = _unwrap(root)
    train_root, test_root = _split_folder(root, TRAIN_NAMES), _split_folder(root, TEST_NAMES)
    classes = _class_folders(train_root or root)
    skipped: Counter[str] = Counter()
    train = _images(root, train_root or root, classes, skipped)
    if train_root is None or test_root is None:
        return Splits(train, None, tuple(classes), _notes(skipped))
    unknown = sorted(set(_class_folders(test_root)) - set(classes))
    if unknown:
        raise UserError(
            f"{test_root} has classes {unknown} that {train_root} lacks; the class folders of both must agree"
        )
    test = _images(root, test_root, classes, skipped)
    unused = [
        folder for folder in _split_folders(root, TEST_NAMES) if folder != test_root and _has_classes(folder)
    ]
    return Splits(train, test, tuple(classes), _notes(skipped, unused))


def read_flat_classes(root: Path, leave_out: Sequence[str] = ()) -> Splits:
    """Read `<class>/<image>` without a split; images in deeper folders are ignored."""
    classes = [name for name in _class_folders(root) if name not in leave_out]
    skipped: Counter[str] = Counter()
    return Splits(_images(root, root, classes, skipped, "*"), None, tuple(classes), _notes(skipped))


def has_classes(root: Path) -> bool:
    """Whether at least two folders in `root` contain images, or its training folder has class folders."""
    root = _unwrap(root)
    return _split_folder(root, TRAIN_NAMES) is not None or len(_found_classes(root)) > 1


def is_image(path: Path) -> bool:
    """Whether a file is an image, by its name."""
    return (
        path.suffix.lower().lstrip(".") in IMAGE_EXTENSIONS
        and not path.name.startswith(SHADOW)
        and path.is_file()
    )


def _unwrap(root: Path) -> Path:
    """The folder with the splits: `root`, or the only folder in it, as in many archives."""
    inner = [entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__"))]
    if len(inner) == 1 and _split_folder(inner[0], TRAIN_NAMES) is not None:
        return inner[0]
    return root


def _split_folders(root: Path, names: Sequence[str]) -> list[Path]:
    """The folders with these names in any case, in the order of `names`."""
    by_name = {entry.name.lower(): entry for entry in sorted(root.iterdir(), reverse=True) if entry.is_dir()}
    return [by_name[name] for name in names if name in by_name]


def _split_folder(root: Path, names: Sequence[str]) -> Path | None:
    """The first of these folders with class folders in it; a class may be called `train`, too."""
    return next((folder for folder in _split_folders(root, names) if _has_classes(folder)), None)


def _has_classes(root: Path) -> bool:
    return any(any(is_image(f) for f in folder.rglob("*")) for folder in _folders(root))


def _folders(root: Path) -> list[Path]:
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _found_classes(root: Path) -> list[str]:
    return [folder.name for folder in _folders(root) if any(is_image(f) for f in folder.rglob("*"))]


def _class_folders(root: Path) -> list[str]:
    classes = _found_classes(root)
    if not classes:
        raise UserError(
            f"target {root} is empty: it has no class folders with images; expected {root}/<class>/<image>.png"
        )
    return classes


def _images(
    base: Path, root: Path, classes: list[str], skipped: Counter[str], pattern: str = "**/*"
) -> ImageSet:
    """The images of `root` with names relative to `base`; counts other files in `skipped` by suffix."""
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        entries = sorted((root / name).glob(pattern))
        members = [file for file in entries if is_image(file)]
        skipped.update(f.suffix.lower() or f.name for f in entries if not is_image(f) and f.is_file())
        files.extend(members)
        labels.extend([label] * len(members))
    return encoded_set(
        [str(file.relative_to(base)) for file in files], np.array(labels, dtype=np.int64), files
    )


def _notes(skipped: Counter[str], unused: Sequence[Path] = ()) -> tuple[str, ...]:
    notes = []
    if skipped:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in skipped.most_common(5))
        notes.append(
            f"{skipped.total()} files were skipped because their names are not those of images ({kinds})"
        )
    for folder in unused:
        count = sum(is_image(f) for f in folder.rglob("*"))
        notes.append(f"the {count} images of {folder.name} are not used")
    return tuple(notes)


@dataclass(frozen=True)
class Tree:
    """The layout `<folder>/<class>/<image>` without a split (see :class:`ppcore.targets.target.Layout`).

    Attributes:
        leave_out: folders that are not classes.
    """

    folder: str
    leave_out: Sequence[str] = ()

    def __call__(self, root: Path) -> Splits | None:
        """The class folders, without a test split."""
        inner = root / self.folder
        return read_flat_classes(inner, self.leave_out) if inner.is_dir() else None
