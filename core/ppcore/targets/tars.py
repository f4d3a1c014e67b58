"""WebDataset shards: tars whose members share a key, `<key>.jpg` with `<key>.cls` or `<key>.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ppcore.console import shortened
from ppcore.errors import UserError
from ppcore.targets.reading import TRAIN, ReadOptions, Report, data_kind
from ppcore.targets.rows import Rows, build
from ppcore.targets.target import Encoded, Splits
from ppcore.targets.trees import MemberTree, join, open_archive, suffix_of

_LABELS = ("cls", "json")
_KEYS = ("label", "cls", "class", "class_name", "category")  # of a JSON label


def is_shard(tree: MemberTree) -> bool:
    """Whether the members of a tar have labels beside them."""
    return any(suffix_of(name) == "cls" for name in tree.others) or (
        len(tree.folders) <= 1 and sum(suffix_of(name) == "json" for name in tree.others) >= tree.count > 0
    )


def read_shards(
    files: Sequence[Path], first: MemberTree, place: Path, options: ReadOptions, report: Report
) -> Splits:
    """The images of shards; the splits by the names of the files and their folders.

    Args:
        first: the first of the files, opened.

    Raises:
        UserError: a shard is damaged, an image has no label, or there are no training images.
    """
    kinds = [
        data_kind(file.relative_to(place)) if file != place and options.split in ("", "folder") else None
        for file in files
    ]
    parts: dict[str, Rows] = {}
    stored: dict[str, Encoded] = {}
    for file, kind in zip(files, kinds, strict=True):
        if kind is None and TRAIN in kinds:
            report.notes.append(f"{file.name} is not used: other files are called train")
            continue
        _add(parts, stored, kind or TRAIN, first if file == first.place else open_archive(file), options)
    return build(parts, place, f"WebDataset shards ({len(files)} files)", report)


def _add(
    parts: dict[str, Rows], stored: dict[str, Encoded], kind: str, tree: MemberTree, options: ReadOptions
) -> None:
    """Add the labelled images of one shard to their split."""
    rows = parts.setdefault(kind, Rows([], [], lambda names: [stored[name] for name in names]))
    names = sorted(tree.names)
    labels = _labels(tree, names, options)
    for name, image in zip(names, tree.sources(names), strict=True):
        rows.names.append(str(tree.place.with_suffix("") / name))
        rows.labels.append(labels[name])
        stored[rows.names[-1]] = image


def _labels(tree: MemberTree, names: Sequence[str], options: ReadOptions) -> dict[str, Any]:
    """The label of every image. Raises UserError if an image has none."""
    beside = [name for name in tree.others if suffix_of(name) in _LABELS]
    # A key ends at the first dot of a name (WebDataset), but keys of real data contain dots, as in `v1.00001.png`.
    for key in (_to_first_dot, _to_last_dot):
        found = {key(name): name for name in sorted(beside, reverse=True)}  # .cls before .json
        if len({key(name) for name in names}) == len(names) and all(key(name) in found for name in names):
            return {name: _label(tree, found[key(name)], options) for name in names}
    keys = {_to_first_dot(name) for name in beside} | {_to_last_dot(name) for name in beside}
    alone = next((name for name in names if not {_to_first_dot(name), _to_last_dot(name)} & keys), names[0])
    raise UserError(
        f"{tree.place}: the image {alone} has no label beside it, or shares its key with another image; expected <key>.jpg and <key>.cls"
    )


def _to_first_dot(name: str) -> str:
    folder, _, base = name.rpartition("/")
    return join(folder, base.partition(".")[0])


def _to_last_dot(name: str) -> str:
    return name.rpartition(".")[0]


def _label(tree: MemberTree, name: str, options: ReadOptions) -> Any:
    with tree.open(name) as handle:
        text = handle.read().decode("utf-8", "replace").strip()
    if suffix_of(name) == "cls":
        return text
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UserError(f"{tree.where(name)} is not JSON ({error}); correct it") from error
    if not isinstance(value, dict):
        return value
    keys = (options.label,) if options.label else _KEYS
    key = next((key for key in keys if key in value), None)
    if key is None:
        raise UserError(
            f"{tree.where(name)} has no label: its keys are {shortened(value, 8)}; say with --label-column which key is the label"
        )
    return value[key]
