"""Layouts of well-known data sets: lists, MATLAB files, arrays. They are recognised by the files in a directory, not by its name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ppcore.targets.folders import ClassFolders
from ppcore.targets.layouts.arrays import (
    read_cars,
    read_cars_devkit,
    read_cifar,
    read_dogs,
    read_flowers,
    read_mnist,
)
from ppcore.targets.layouts.lists import TextLists, read_cub
from ppcore.targets.target import Layout, Splits

LAYOUTS: dict[str, Layout] = {
    "DTD": TextLists(
        train=("labels/train1.txt", "labels/val1.txt"),
        test=("labels/test1.txt",),
        images="images",
        line=r"(?P<image>(?P<label>[^/]+)/.+)",
    ),
    "FGVC-Aircraft": TextLists(
        train=("data/images_variant_trainval.txt",),
        test=("data/images_variant_test.txt",),
        images="data/images",
        line=r"(?P<image>\S+) (?P<label>.+)",
        suffix=".jpg",
        classes="data/variants.txt",
    ),
    "Food-101": TextLists(
        train=("meta/train.txt",),
        test=("meta/test.txt",),
        images="images",
        line=r"(?P<image>(?P<label>[^/]+)/.+)",
        suffix=".jpg",
    ),
    "Oxford-IIIT Pet": TextLists(
        train=("annotations/trainval.txt",),
        test=("annotations/test.txt",),
        images="images",
        line=r"(?P<image>(?P<label>.+)_\d+) \d+ \d+ \d+",
        suffix=".jpg",
    ),
    "MIT Indoor 67": TextLists(
        train=("TrainImages.txt",),
        test=("TestImages.txt",),
        images="Images",
        line=r"(?P<image>(?P<label>[^/]+)/.+)",
    ),
    "CUB-200-2011": read_cub,
    "Stanford Cars, devkit": read_cars_devkit,
    "Stanford Cars, one list": read_cars,
    "Stanford Dogs": read_dogs,
    "Flowers-102": read_flowers,
    "CIFAR for Python": read_cifar,
    "MNIST": read_mnist,
    "Caltech-256": ClassFolders("256_ObjectCategories", leave_out=("257.clutter",)),
    "EuroSAT": ClassFolders("2750"),
}
"""Data set -> layout of its archives; other data sets may have the same layouts."""

_DEPTH, _MOST_FOLDERS = 2, 12  # archives and torchvision put a layout into up to two folders


def read_layout(root: Path) -> Splits | None:
    """The target in `root` or up to two folders deeper; None if no layout is recognised."""
    for folder in _near(root):
        for read in LAYOUTS.values():
            splits = read(folder)
            if splits is not None:
                return splits
    return None


def _near(root: Path) -> Iterator[Path]:
    """`root`, its folders and their folders. A folder with more than 12 folders is not entered: these are classes."""
    level = [root]
    for _ in range(_DEPTH + 1):
        yield from level
        inner = [sorted(e for e in folder.iterdir() if e.is_dir()) for folder in level]
        level = [entry for entries in inner if len(entries) <= _MOST_FOLDERS for entry in entries]
