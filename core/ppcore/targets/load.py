"""A target by name or by where its files are."""

from __future__ import annotations

import re
from pathlib import Path

from ppcore.errors import UserError
from ppcore.seeds import derive
from ppcore.targets.files import read_files
from ppcore.targets.named import NAMED, read_named
from ppcore.targets.splits import hold_out
from ppcore.targets.target import Target

_PINNED = re.compile(r"hf://datasets/[\w.-]+/[\w.-]+@[0-9a-f]{40}")
_NAMING = re.compile(r"(?!train=|test=)([A-Za-z0-9][\w.-]*)=(.+)")


def may_be_named(spec: str) -> bool:
    """Whether a directory that someone else made may name this target: one known by name, or a data set of the hub at a commit."""
    return spec in NAMED or _PINNED.fullmatch(spec) is not None


def load_target(spec: str) -> Target:
    """Open a target.

    Args:
        spec: a name that `ppgen targets` lists (a local copy at $PPTRANSFER_DATA/NAME or data/NAME, else downloaded where that is
            possible); `NAME=DIR`, such a target in a directory, or data of your own under a name of your own; an image folder
            (`class/*.png` or `train/class/*` and `test/class/*`); Hugging Face image parquet (a folder of `train*.parquet` and
            `test*.parquet`, one file, or `hf://datasets/ORG/NAME@REVISION`); WebDataset tars (a folder of `train*.tar` and
            `test*.tar`); CSV files and their images; or `train=GLOB,test=GLOB` naming files outright.

    A target without a test split gives up a fixed fifth of every class, chosen by a hash of the image's name.

    Raises:
        UserError: no such target, empty, or with a class structure that cannot be read; a known one that is not complete.
    """
    name, place = _parse(spec)
    if name in NAMED and place != spec:
        train, test, classes, notes = read_named(NAMED[name], place)
    else:
        train, test, classes, notes = read_files(place or spec)
    if not len(train):
        raise UserError(f"target {name!r} has no training images; point at a folder or file that holds some")
    if test is None:
        train, test = hold_out(train)
    return Target(name, classes, train, test, notes)


def target_name(spec: str) -> str:
    """A name fit for a directory: as given, else the last part of the path, with a hash where that part alone says too little."""
    return _parse(spec)[0]


def _parse(spec: str) -> tuple[str, str | None]:
    """(the target's name, where it is said to be)."""
    if spec in NAMED:
        return spec, None
    naming = _NAMING.fullmatch(spec)
    if naming is not None and not Path(spec).exists():
        return naming[1], naming[2]
    if "=" in spec:
        return f"files-{derive(0, spec) % 16**8:08x}", spec
    return Path(spec.split("@")[0].rstrip("/")).name.split(".")[0] or "target", spec
