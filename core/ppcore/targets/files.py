"""Reads a target from files: chooses the reader, and the files of the training and test split."""

from __future__ import annotations

from collections.abc import Sequence
from glob import glob
from pathlib import Path

from ppcore.errors import UserError
from ppcore.targets.archives import read_parquet, read_tars
from ppcore.targets.folders import has_classes, read_folder
from ppcore.targets.layouts import read_layout
from ppcore.targets.tables import TABLES, find_tables, read_tables
from ppcore.targets.target import FileReader, Splits, sort_files

READERS: dict[str, FileReader] = {".parquet": read_parquet, ".tar": read_tars}
"""Suffix -> reader; see also :data:`ppcore.targets.tables.TABLES`."""

_HUB = "hf://datasets/"


def read_files(spec: str, patterns: Sequence[str] = ("*.parquet",)) -> Splits:
    """Read a folder, a file, a hub data set or `train=GLOB,test=GLOB` (see :func:`ppcore.targets.problems.load_target`).

    Args:
        patterns: the files of a hub data set to download.
    """
    if spec.startswith("train="):
        return _read_patterns(spec)
    path = Path(_download(spec, patterns) if spec.startswith(_HUB) else spec)
    if path.is_file():
        return _read_splits([str(path)], [], spec)
    if not path.is_dir():
        raise UserError(
            f"unknown target {spec!r}: it is neither a known name (ppgen targets lists them) nor an existing folder or file; "
            f"give an image folder, a parquet file or a folder of parquet files"
        )
    return _read_directory(path)


def _read_directory(root: Path) -> Splits:
    """Read a folder: a layout of a well-known data set, else parquet files or tars, else CSV files, else class folders."""
    known = read_layout(root)
    if known is not None:
        return known
    for suffix in READERS:
        files = sorted(str(f) for f in root.rglob(f"*{suffix}"))
        if files:
            return _read_sorted(files, str(root))
    tables = find_tables(root)
    if tables and not has_classes(root):
        return _read_sorted(tables, str(root))
    return read_folder(root)


def _read_sorted(files: list[str], spec: str) -> Splits:
    train, test, others = sort_files(files)
    splits = _read_splits(train, test, spec)
    if not others:
        return splits
    names = ", ".join(sorted(Path(file).name for file in others)[:3])
    note = f"{len(others)} files of other splits are not used ({names})"
    return splits._replace(notes=(*splits.notes, note))


def _read_patterns(spec: str) -> Splits:
    """Read `train=GLOB` or `train=GLOB,test=GLOB`."""
    given = dict(part.partition("=")[::2] for part in spec.split(","))
    if set(given) - {"train", "test"}:
        raise UserError(f"target {spec!r} has unknown parts; write train=GLOB or train=GLOB,test=GLOB")
    train, test = sorted(glob(given["train"])), sorted(glob(given.get("test", "")))
    if not train or ("test" in given and not test):
        raise UserError(f"target {spec!r} matches no files; check the patterns")
    return _read_splits(train, test, spec)


def _read_splits(train_files: Sequence[str], test_files: Sequence[str], spec: str) -> Splits:
    if not train_files:
        raise UserError(
            f"target {spec!r} has test files but no training files; call the training files train*"
        )
    suffix = Path(train_files[0]).suffix.lower()
    if suffix in TABLES:
        return read_tables(train_files, test_files)
    read = READERS.get(suffix, read_parquet)
    train, classes = read(train_files)
    test = read(test_files)[0] if test_files else None
    top = max(int(images.labels.max(initial=-1)) for images in (train, test) if images is not None)
    low = min(int(images.labels.min(initial=0)) for images in (train, test) if images is not None)
    classes = classes or tuple(str(c) for c in range(top + 1))
    if top >= len(classes) or low < 0:
        raise UserError(
            f"target {spec!r} has labels from {low} to {top}, expected 0 to {len(classes) - 1}; remove unlabelled rows"
        )
    return Splits(train, test, classes)


def _download(spec: str, patterns: Sequence[str]) -> str:
    """Download `hf://datasets/ORG/NAME@REVISION`. Returns the local folder."""
    from huggingface_hub import snapshot_download  # slow to import

    name, _, revision = spec.removeprefix(_HUB).partition("@")
    try:
        return snapshot_download(
            name, repo_type="dataset", revision=revision or None, allow_patterns=list(patterns)
        )
    except Exception as error:  # the hub library raises many types
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"the data set {name} cannot be downloaded from the hub ({reason}); put a local copy (class folders or parquet) in "
            f"data/{name.rsplit('/', 1)[-1].removeprefix('stanford_')} or give its path as the target"
        ) from error
