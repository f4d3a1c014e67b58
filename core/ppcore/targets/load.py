"""A target by name or by where its files are."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from ppcore.errors import UserError
from ppcore.seeds import derive
from ppcore.targets.digits import read_digits
from ppcore.targets.files import read_files
from ppcore.targets.splits import hold_out
from ppcore.targets.target import Splits, Target

CARS_DATASET = "hf://datasets/tanganke/stanford_cars@269de5dca6d88c0f1426f8ad0dc070c0b030bb3d"
"""Stanford Cars (Krause et al. 2013), 196 classes, as parquet; torchvision's own download link is dead."""


def read_cars() -> Splits:
    """A local copy in `$PPTRANSFER_DATA/cars` or `data/cars`, else the hub's."""
    for root in (os.environ.get("PPTRANSFER_DATA"), "data"):
        if root and Path(root, "cars").is_dir():
            return read_files(str(Path(root, "cars")))
    return read_files(CARS_DATASET)


_PINNED = re.compile(r"hf://datasets/[\w.-]+/[\w.-]+@[0-9a-f]{40}")
NAMED: dict[str, Callable[[], Splits]] = {"digits": read_digits, "cars": read_cars}
"""Targets known by name."""


def may_be_named(spec: str) -> bool:
    """Whether a directory that someone else made may name this target: one known by name, or a data set of the hub at a commit."""
    return spec in NAMED or _PINNED.fullmatch(spec) is not None


def load_target(spec: str) -> Target:
    """Open a target.

    Args:
        spec: `digits` (scikit-learn's handwritten digits, UCI); `cars` (a local copy at $PPTRANSFER_DATA/cars or data/cars,
            else the hub's parquet); an image folder (`class/*.png` or `train/class/*` and `test/class/*`); Hugging Face image
            parquet (a folder of `train*.parquet` and `test*.parquet`, one file, or `hf://datasets/ORG/NAME@REVISION`);
            WebDataset tars (a folder of `train*.tar` and `test*.tar`); or `train=GLOB,test=GLOB` naming files outright.

    A target without a test split gives up a fixed fifth of every class, chosen by a hash of the image's name.

    Raises:
        UserError: no such target, empty, or with a class structure that cannot be read.
    """
    if spec in NAMED:
        train, test, classes = NAMED[spec]()
    else:
        train, test, classes = read_files(spec)
    name = target_name(spec)
    if not len(train):
        raise UserError(f"target {name!r} has no training images; point at a folder or file that holds some")
    if test is None:
        train, test = hold_out(train)
    return Target(name, classes, train, test)


def target_name(spec: str) -> str:
    """A name fit for a directory: the last part of the path, with a hash where that part alone says too little."""
    if spec in NAMED:
        return spec
    if "=" in spec:
        return f"files-{derive(0, spec) % 16**8:08x}"
    return Path(spec.split("@")[0].rstrip("/")).name.split(".")[0] or "target"
