"""Opens a target by name or by the place of its files."""

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
    """Whether a plan may name this target by itself: a known name, or a data set of the hub at a commit. Other targets must be typed."""
    return spec in NAMED or _PINNED.fullmatch(spec) is not None


def load_target(spec: str) -> Target:
    """Open a target.

    Args:
        spec: a name that `ppgen targets` lists (a local copy in $PPTRANSFER_DATA/NAME or data/NAME, else downloaded if possible);
            `NAME=DIR`, a known target in a directory, or your own data with a name of your choice; an image folder
            (`class/*.png` or `train/class/*` and `test/class/*`); Hugging Face image parquet (a folder of `train*.parquet` and
            `test*.parquet`, one file, or `hf://datasets/ORG/NAME@REVISION`); WebDataset tars (a folder of `train*.tar` and
            `test*.tar`); CSV files and their images; or file patterns `train=GLOB,test=GLOB`.

    If there is no test split, a fixed fifth of every class is held out, chosen by a hash of the image's name.

    Raises:
        UserError: there is no such target, it has no images or no classes, or a known target is not complete.
    """
    name, place = _parse(spec)
    if name in NAMED and place != spec:
        train, test, classes, notes = read_named(NAMED[name], place)
    else:
        train, test, classes, notes = read_files(place or spec)
    if not len(train):
        raise UserError(f"target {name!r} has no training images; give a folder or file with images")
    if test is None:
        train, test = hold_out(train)
    return Target(name, classes, train, test, notes)


def target_name(spec: str) -> str:
    """The name of a target, for directory names: as given, else the last part of the path; for file patterns a hash."""
    return _parse(spec)[0]


def _parse(spec: str) -> tuple[str, str | None]:
    """(name of the target, its place or None for a known name)."""
    if spec in NAMED:
        return spec, None
    naming = _NAMING.fullmatch(spec)
    if naming is not None and not Path(spec).exists():
        return naming[1], naming[2]
    if "=" in spec:
        return f"files-{derive(0, spec) % 16**8:08x}", spec
    return Path(spec.split("@")[0].rstrip("/")).name.split(".")[0] or "target", spec
