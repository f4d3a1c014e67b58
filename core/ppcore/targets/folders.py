"""Classes and splits by folders: which folder of an image names its class, and which its split.

Only the names of folders and their numbers of images are looked at. A layout with one plausible reading is read; one with two is an
error that names both.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ppcore.console import shortened
from ppcore.errors import UserError
from ppcore.targets.reading import EXTRA, TRAIN, ReadOptions, Report, ambiguous, few, split_kind
from ppcore.targets.rows import Rows, build
from ppcore.targets.target import Splits
from ppcore.targets.trees import FolderTree, Tree, join

Parts = tuple[str, ...]
_MOST = 4  # names in a message


class Place(NamedTuple):
    """What a folder stands for: the kind of split, and the class; None if its images are not used."""

    kind: str
    label: str


def assign_folders(
    counts: Mapping[str, int], place: Path, options: ReadOptions, report: Report
) -> dict[str, Place] | None:
    """The split and the class of every folder; images of folders that are missing from the result are not used.

    Args:
        counts: folder ("" is the top) -> its number of images.
        place: the collection, for messages.

    Returns:
        None if the folders name no classes: all images are at the top, or directly in the folders of the splits.

    Raises:
        UserError: two readings are plausible, or there are test images only.
    """
    folders = {tuple(name.split("/")) if name else (): name for name in counts}
    inner = {parts[len(_shared(list(folders))) :]: name for parts, name in folders.items()}
    splits = _splits(list(inner), place, options, report)
    rests = {parts: rest for parts, (_, rest) in splits.items()}
    if not any(rests.values()):
        return None
    level = _class_level(sorted(set(rests.values())), place, options, report)
    found: dict[str, Place] = {}
    loose: Counter[str] = Counter()
    for parts, name in inner.items():
        if parts not in splits:
            loose[name] += counts[name]
            continue
        kind, rest = splits[parts]
        if not -len(rest) <= level < len(rest):
            loose[name] += counts[name]
        else:
            found[name] = Place(kind, rest[level])
    for name, count in list(loose.items())[:_MOST]:
        report.doubts.append(
            f"the {count} images directly in {join(str(place), name)} are not used: they have no class"
        )
    return found


def _shared(folders: Sequence[Parts]) -> Parts:
    """The folders that all images are in, without the last level: archives often have one folder around everything."""
    shared: Parts = ()
    folders = [parts for parts in folders if parts]
    while folders and all(len(parts) > len(shared) + 1 for parts in folders):
        first = {parts[: len(shared) + 1] for parts in folders}
        if len(first) > 1 or split_kind(next(iter(first))[-1]):
            break
        shared = next(iter(first))
    return shared


def _splits(
    folders: Sequence[Parts], place: Path, options: ReadOptions, report: Report
) -> dict[Parts, tuple[str, Parts]]:
    """Folder -> (kind of split, its folders below the split). Folders that are missing belong to no split."""
    tops = sorted({parts[0] for parts in folders if parts})
    named = {top: kind for top in tops if (kind := split_kind(top))}
    unsplit = {parts: (TRAIN, parts) for parts in folders}
    if options.split == "none" or not tops:
        return unsplit
    second = [parts[1] for parts in folders if len(parts) > 1]
    # <class>/<split>/<image>
    if len(named) < len(tops) and len(second) == len(folders) and all(map(split_kind, second)):
        kinds = set(map(split_kind, second))
        if TRAIN in kinds and len(kinds) > 1:
            return {p: (split_kind(p[1]) or TRAIN, (p[0], *p[2:])) for p in folders}
    if not named:
        return unsplit
    below = {top: {parts[1] for parts in folders if len(parts) > 1 and parts[0] == top} for top in tops}
    others = [top for top in tops if top not in named]
    train = [top for top, kind in named.items() if kind == TRAIN]
    held = [top for top in named if top not in train]
    if others and options.split != "folder":
        deep = [top for top in train if below[top]]
        if (
            held
            and not train
            and any(below[top] for top in held)
            and all(below[t] <= set(others) for t in held)
        ):
            return unsplit | {p: (named[p[0]], p[1:]) for p in folders if p and p[0] in named}
        if train and not deep and not held:
            return unsplit  # a class is called `train`; Report.doubts says so
        clear = deep and ((all(below[top] for top in held) and held) or {o.lower() for o in others} <= EXTRA)
        if not clear:
            inner = set().union(*below.values())
            if not held and all(below[top] == inner for top in tops):  # no split, but classes at two levels
                return unsplit
            raise ambiguous(
                place,
                f"the classes {few(tops)}",
                "--split none",
                f"the splits {few(named)}, without {few(others)}",
                "--split folder",
            )
    if others:
        report.doubts.append(
            f"the images of {shortened(others, _MOST)} are not used: these folders are not splits"
        )
    if not train:
        raise UserError(
            f"{place} has images for {shortened(held, _MOST)} but none to train on; add a folder `train`, or give --split none if these "
            f"are classes"
        )
    found = {p: (named[p[0]], _without_kind(p[1:], named[p[0]])) for p in folders if p and p[0] in named}
    inside = sorted({rest[0] for _, rest in found.values() if len(rest) > 1 and split_kind(rest[0])})
    if inside:
        report.doubts.append(f"folders of the splits contain other splits ({few(inside)})")
    return found


def _without_kind(rest: Parts, kind: str) -> Parts:
    """Without repeated folders of the split, as in `train/train/cat`, unless they would be the class."""
    while len(rest) > 1 and split_kind(rest[0]) == kind:
        rest = rest[1:]
    return rest


def _class_level(rests: Sequence[Parts], place: Path, options: ReadOptions, report: Report) -> int:
    """Which of the folders below the split is the class: 0 is the first."""
    if options.by_folder:
        return options.by_folder - (options.by_folder > 0)
    rests = [rest for rest in rests if rest]
    level = 0
    while all(len(rest) > level + 1 for rest in rests) and len({rest[level] for rest in rests}) == 1:
        level += 1  # a folder around all classes, such as `images`
    tops = sorted({rest[level] for rest in rests})
    direct = {rest[level] for rest in rests if len(rest) == level + 1}
    deeper = [rest for rest in rests if len(rest) > level + 1]
    if not deeper:
        return level
    inner = sorted({rest[-1] for rest in deeper})
    if direct:
        text = f"folders below a class belong to it ({shortened(inner, _MOST)})"
        (report.notes if direct == set(tops) else report.doubts).append(text)
        return level
    own = Counter(rest[level] for rest in deeper)
    if (
        len(inner) == 1 or max(own.values()) == 1
    ):  # `cat/images/...`: one reading, whichever folder names the class
        return level
    raise ambiguous(
        place,
        f"the classes {few(tops)}",
        f"--classes-from folder:{level + 1}",
        f"the classes {few(inner)}",
        "--classes-from folder:-1",
    )


def read_folders(tree: Tree, options: ReadOptions, report: Report) -> Splits | None:
    """The images of a tree with classes by folders (or by `regex:PATTERN`); None if the folders name no classes.

    Raises:
        UserError: two readings are plausible, an image has no class by the pattern, or there are no training images.
    """
    pattern = options.pattern
    counts = {folder: len(names) for folder, names in tree.folders.items()}
    if pattern is None:
        places = assign_folders(counts, tree.place, options, report)
        if places is None:
            return None
    else:
        kinds = _splits([tuple(f.split("/")) if f else () for f in counts], tree.place, options, report)
        places = {"/".join(parts): Place(kind, "") for parts, (kind, _) in kinds.items()}
    parts: dict[str, Rows] = {}
    for folder, (kind, label) in places.items():
        names = [join(folder, name) for name in tree.folders[folder]]
        labels = [label] * len(names) if pattern is None else [_found(pattern, name, tree) for name in names]
        rows = parts.setdefault(kind, Rows([], [], tree.sources))
        rows.names += names
        rows.labels += labels
    what = "regular expression" if pattern is not None else "folders"
    return build(parts, tree.place, f"classes by the {what}", report)


def _found(pattern: re.Pattern[str], name: str, tree: Tree) -> str:
    match = pattern.search(name)
    if match is None or not match[1]:
        raise UserError(
            f"{tree.where(name)} has no class by --classes-from regex:{pattern.pattern}; correct the pattern or remove the image"
        )
    return match[1]


@dataclass(frozen=True)
class ClassFolders:
    """The layout `<folder>/<class>/<image>` without a split (see :class:`ppcore.targets.target.Layout`).

    Attributes:
        leave_out: folders that are not classes.
    """

    folder: str
    leave_out: Sequence[str] = ()

    def __call__(self, root: Path) -> Splits | None:
        """The class folders, without a test split."""
        inner = root / self.folder
        if not inner.is_dir():
            return None
        tree = FolderTree(inner)
        tree.folders = {f: n for f, n in tree.folders.items() if "/" not in f and f not in self.leave_out}
        return read_folders(tree, ReadOptions(split="none"), Report())
