"""Reads a target from files: opens its place, and chooses the reader by what is there."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from glob import glob
from pathlib import Path, PurePosixPath

import numpy as np

from ppcore.console import shortened
from ppcore.errors import UserError, first_line
from ppcore.places import local_path
from ppcore.targets.arrow import ARROW
from ppcore.targets.folders import read_folders
from ppcore.targets.layouts import read_layout
from ppcore.targets.listing import Table
from ppcore.targets.reading import (
    TEST,
    TRAIN,
    VAL,
    ReadOptions,
    Report,
    ambiguous,
    data_kind,
    few,
    parse_spec,
    split_kind,
    with_options,
)
from ppcore.targets.rows import require_known
from ppcore.targets.tables import find_tables, open_table, read_tables
from ppcore.targets.target import Splits
from ppcore.targets.tars import is_shard, read_shards
from ppcore.targets.texts import TEXTS
from ppcore.targets.trees import FolderTree, Tree, is_archive, is_image_name, open_archive, suffix_of

_HUB = "hf://datasets/"
_HEIC = ("heic", "heif", "avif", "jxl")
_MOST = 3  # names in a message


def read_files(spec: str, patterns: Sequence[str] = ()) -> Splits:
    """Read a folder, a file, an archive, a hub data set or `train=PLACE,test=PLACE` (see :func:`ppcore.targets.load.load_target`).

    Args:
        spec: may end in options, see :func:`ppcore.targets.reading.parse_spec`.
        patterns: the files of a hub data set to download; by default the parquet files, or all files if there are none.
    """
    place, options = parse_spec(spec)
    if re.match(r"(train|test|val)=", place):
        return _read_pair(place, options)
    path = Path(_download(place, patterns) if place.startswith(_HUB) else local_path(place))
    if path.is_dir():
        return _read_folder(path, options)
    if path.is_file():
        return _read_file(path, options)
    files = sorted(glob(str(path), recursive=True))
    if files:
        return _read_glob(files, options)
    raise UserError(
        f"unknown target {place!r}: it is neither a known name (ppgen targets lists them) nor an existing folder, file or pattern; "
        f"give images, a table or an archive"
    )


def _read_folder(root: Path, options: ReadOptions) -> Splits:
    known = read_layout(root) if options == ReadOptions() else None
    return read_tree(FolderTree(root), options) if known is None else known


def _read_file(file: Path, options: ReadOptions) -> Splits:
    suffix = suffix_of(file.name)
    if suffix in (*ARROW, *TEXTS):
        around = FolderTree(file.parent, [file.name])  # the folder may be large, it is not listed
        report = Report()
        if split_kind(file.parent.name) in (TEST, VAL) and not options.split:
            report.doubts.append(f"{file.name} lies in a folder called {file.parent.name}")
        return read_tables(around, [open_table(around, file.name, options)], options, report)
    if is_image_name(file.name) or not is_archive(file.name):
        raise UserError(
            f"{file} is one file, expected a folder of images, a table (CSV, JSON lines, parquet) or an archive"
        )
    tree = open_archive(file)
    return read_shards([file], tree, file, options, Report()) if is_shard(tree) else read_tree(tree, options)


def _read_glob(files: Sequence[str], options: ReadOptions) -> Splits:
    """Read the files that match a pattern: images, or tables, or shards."""
    root = Path(os.path.commonpath([os.path.dirname(file) or "." for file in files]))
    return read_tree(
        FolderTree(root, [os.path.relpath(f, root) for f in files if os.path.isfile(f)]), options
    )


def _read_pair(place: str, options: ReadOptions) -> Splits:
    """Read `train=PLACE` or `train=PLACE,test=PLACE`: each is read by itself, without its own splits."""
    given = dict(part.partition("=")[::2] for part in place.split(","))
    if set(given) - {"train", "test"} or "train" not in given:
        raise UserError(f"target {place!r} has unknown parts; write train=PLACE or train=PLACE,test=PLACE")
    whole = {**asdict(options), "split": "none"}
    train = read_files(with_options(given["train"], whole))
    if "test" not in given:
        return train
    return _paired(train, read_files(with_options(given["test"], whole)), place)


def _paired(train: Splits, test: Splits, place: object) -> Splits:
    """One target from a training set and a test set; the classes are those of the training set."""
    require_known(test.classes, train.classes, place, TEST)
    index = {name: position for position, name in enumerate(train.classes)}
    labels = np.array([index[name] for name in test.classes], dtype=np.int64)[test.train.labels]
    held = replace(test.train, labels=labels)
    return Splits(train.train, held, train.classes, train.notes + test.notes, train.doubts + test.doubts)


def read_tree(tree: Tree, options: ReadOptions) -> Splits:
    """Read the files of a folder or an archive by the one reader that fits.

    Raises:
        UserError: nothing in it is a labelled image, or two readers fit.
    """
    by_folder = bool(options.by_folder or options.pattern)
    found = [] if by_folder else find_tables(tree, options)
    tables = [table for table in found if table.images is not None and table.labels is not None]
    archives = [name for name in tree.others if is_archive(name)]
    if not tree.folders and not tables and archives and isinstance(tree, FolderTree):
        return _read_archives(tree, archives, options)
    folders, problem = None, None
    if tree.folders and not (tables and (options.label or options.image_column or options.split_column)):
        try:
            folders = read_folders(tree, options, Report())
        except UserError as error:
            problem = error
    if tables:
        splits = _by_tables(tree, tables, folders, options)
    elif folders is not None:
        doubts = [
            f"{table.name} lists images, but it is not used: none of its columns is known to hold labels"
            for table in found
            if table.lists
        ]
        splits = folders._replace(doubts=(*folders.doubts, *doubts))
    else:
        raise problem or _unlabelled(tree)
    return _with_leftovers(splits, tree, [table.name for table in tables])


def _by_tables(tree: Tree, tables: Sequence[Table], folders: Splits | None, options: ReadOptions) -> Splits:
    """The reading by tables, unless the folders name other classes or more images.

    Raises:
        UserError: both readings are plausible.
    """
    listed = read_tables(tree, tables, options, Report())
    if folders is None or len(folders.classes) < 2:
        return listed
    by_table, by_folder = _classes_of(listed), _classes_of(folders)
    shared = by_table.keys() & by_folder.keys()
    pairs = {(by_table[name], by_folder[name]) for name in shared}
    if shared and len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}):
        whole = len(shared) == len(by_folder) or listed.test is not None
        return listed if whole else folders
    first = tables[0]
    column = (
        f"--classes-from column:{first.label_column}"
        if shared
        else f"give {tree.where(first.name)} as the target"
    )
    raise ambiguous(
        tree.place,
        f"the classes {few(folders.classes)} by folders",
        "--classes-from folder",
        f"{few(listed.classes)} by the column {first.label_column!r} of {first.name}",
        column,
    )


def _classes_of(splits: Splits) -> dict[str, str]:
    sets = [images for images in (splits.train, splits.test) if images is not None]
    return {
        name: splits.classes[label]
        for images in sets
        for name, label in zip(images.ids, images.labels.tolist(), strict=True)
    }


def _read_archives(tree: FolderTree, archives: Sequence[str], options: ReadOptions) -> Splits:
    """Read a folder that has only archives: shards, one archive, or one for each split."""
    files = [tree.place / name for name in archives]
    first = open_archive(files[0])
    if is_shard(first):
        return _with_leftovers(read_shards(files, first, tree.place, options, Report()), tree, archives)
    if len(archives) == 1:
        return read_tree(first, options)
    kinds = {data_kind(PurePosixPath(name)): number for number, name in enumerate(archives)}
    held = kinds.get(TEST, kinds.get(VAL))
    if len(kinds) == len(archives) and TRAIN in kinds and held is not None:
        whole = replace(options, split="none")
        train, test = (read_tree(open_archive(files[number]), whole) for number in (kinds[TRAIN], held))
        return _paired(train, test, tree.place)
    raise UserError(
        f"{tree.place} has {len(archives)} archives ({shortened(archives, _MOST)}) that are no WebDataset shards; unpack them, or give one"
    )


def _unlabelled(tree: Tree) -> UserError:
    """The error for a tree without labelled images: what is there, and what was expected."""
    skipped = tree.skipped()
    there = (
        f"{tree.count} images, but no class folders and no table with a label column"
        if tree.count
        else "no images"
    )
    there += f"; skipped: {skipped}" if skipped else ""
    if any(suffix_of(name) in _HEIC for name in tree.others):
        return UserError(
            f"{tree.place} has {there}; convert such images to JPEG (the package pillow-heif opens HEIC)"
        )
    return UserError(
        f"{tree.place} has {there}; expected {tree.place.name}/<class>/<image>.jpg, a table of files and labels, or "
        "--classes-from regex:PATTERN"
    )


def _with_leftovers(splits: Splits, tree: Tree, used: Sequence[str]) -> Splits:
    """Add what is not used: other files, and folders without images beside the classes."""
    notes, doubts = list(splits.notes), list(splits.doubts)
    skipped = tree.skipped(used)
    if skipped:
        data = [
            n for n in tree.others if n not in used and (is_archive(n) or suffix_of(n) in (*ARROW, *TEXTS))
        ]
        notes.append(
            f"other files are not used: {skipped}" + (f" ({shortened(data, _MOST)})" if data else "")
        )
    parents = {folder.rpartition("/")[0] for folder in tree.folders if folder}
    bare = [folder for folder in tree.bare if folder and folder.rpartition("/")[0] in parents]
    strange = {name.rpartition("/")[0] for name in tree.others if suffix_of(name) not in _HEIC}
    bare = [folder for folder in bare if not any(f"{other}/".startswith(f"{folder}/") for other in strange)]
    if bare and not used:
        doubts.append(f"the folders {shortened(bare, _MOST)} have no readable images and are no classes")
    return splits._replace(notes=tuple(notes), doubts=tuple(doubts))


def _download(spec: str, patterns: Sequence[str]) -> str:
    """Download `hf://datasets/ORG/NAME@REVISION`. Returns the local folder."""
    from huggingface_hub import snapshot_download  # slow to import

    name, _, revision = spec.removeprefix(_HUB).partition("@")
    wanted = [list(patterns)] if patterns else [["*.parquet"], None]
    try:
        for allowed in wanted:
            folder = snapshot_download(
                name, repo_type="dataset", revision=revision or None, allow_patterns=allowed
            )
            if patterns or any(Path(folder).rglob("*.parquet")):
                break
        return folder
    except Exception as error:  # the hub library raises many types
        raise UserError(
            f"the data set {name} cannot be downloaded from the hub ({first_line(error)}); put a local copy (class folders or parquet) in "
            f"data/{name.rsplit('/', 1)[-1].removeprefix('stanford_')} or give its path as the target"
        ) from error
