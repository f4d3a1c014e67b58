"""From what a reader found, image by image, to the sets of a target: labels, classes, splits, one order for every container."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from ppcore.console import shortened
from ppcore.errors import UserError
from ppcore.targets.pixels import encoded_set
from ppcore.targets.reading import EXTRA, TEST, TRAIN, VAL, Report, data_kind, split_kind
from ppcore.targets.target import Encoded, ImageSet, Splits

_SUSPICIOUS = {
    "images",
    "image",
    "imgs",
    "img",
    "data",
    "photos",
    "pictures",
    "files",
    "jpg",
    "jpeg",
    "png",
    "day",
    "night",
}
_MOST_OF_ALL = 0.9  # share of the images in one class that is worth a warning
_MANY, _MOST = 20, 4  # images from which that share says something; names in a message


@dataclass
class Rows:
    """The images of one split, in any order.

    Attributes:
        names: relative names, unique in a split.
        labels: names of classes, whole numbers, or None for a hidden label.
        sources: names -> the encoded images, in the same order.
        where: position -> its place in messages, such as `labels.csv, row 7`.
    """

    names: list[str]
    labels: list[Any]
    sources: Callable[[Sequence[str]], Sequence[Encoded]]
    where: Callable[[int], str] | None = None

    def place(self, position: int) -> str:
        """Where an image was found, for messages."""
        return self.names[position] if self.where is None else self.where(position)


def build(
    parts: Mapping[str, Rows], place: Path | str, what: str, report: Report, classes: Sequence[str] = ()
) -> Splits:
    """The training and the test images: `test` comes before `val`; the validation images are used if there are no others.

    The images of a class are sorted by their names without folders and suffix, so that a folder, a table and an archive of the same
    files give the same target. Without `classes` the classes are the labels of the training images, sorted as numbers or as words.

    Args:
        parts: kind of split, or the name of another split -> its images.
        place: the collection, for messages.
        what: the reader, as in `classes by the folders`.
        classes: the names of all classes, in their order.

    Raises:
        UserError: no training images, a missing or an odd label, or test images of a class without training images.
    """
    labels = {kind: _checked(rows, classes) for kind, rows in parts.items() if rows.names}
    hidden = [kind for kind, values in labels.items() if values is None]
    known = {kind: values for kind, values in labels.items() if values is not None}
    if TRAIN not in known:
        reason = (
            "its labels are hidden" if TRAIN in hidden else f"it has {shortened(parts, _MOST) or 'no images'}"
        )
        raise UserError(f"{place} has no labelled training images ({reason}); call the training split train")
    report.notes.insert(0, f"{place}: {what}")
    report.notes += [
        f"the {len(parts[kind].names)} images of {kind} are not used: their labels are hidden"
        for kind in hidden
    ]
    held = next((kind for kind in (TEST, VAL) if kind in known), None)
    report.notes += [
        f"the {len(parts[kind].names)} images of {kind} are not used"
        for kind in known
        if kind not in (TRAIN, held)
    ]
    if held == VAL:
        report.notes.append(f"the {len(parts[VAL].names)} validation images are the test images")
    names = [_clean(name) for name in classes] or _ordered(known[TRAIN])
    index = {name: position for position, name in enumerate(names)}
    if held:
        require_known(known[held], names, place, held)
    train = _set(parts[TRAIN], known[TRAIN], index)
    test = _set(parts[held], known[held], index) if held else None
    _doubt(train, test, names, report)
    return Splits(train, test, tuple(names), tuple(report.notes), tuple(report.doubts))


def require_known(labels: Iterable[str], classes: Sequence[str], place: object, held: str) -> None:
    """Raise UserError if images of the split `held` have a class that is none of `classes`, those of the training images."""
    strange = sorted(set(labels).difference(classes))
    if strange:
        raise UserError(
            f"{place}: the {held} images have classes that no training image has: {shortened(strange, _MOST)}; rename them, or "
            "leave the split out by train=PLACE"
        )


def _checked(rows: Rows, classes: Sequence[str]) -> list[str] | None:
    """The labels as names of classes; None if every label is hidden. Raises UserError."""
    try:
        known = {value: _label(value) for value in set(rows.labels)}
    except TypeError as error:
        raise UserError(
            f"{rows.place(0)} has a list as its label; a target needs one class for each image"
        ) from error
    labels = [known[value] for value in rows.labels]
    if None in known.values():
        missing = [position for position, label in enumerate(labels) if label is None]
        if len(missing) == len(labels):
            return None
        raise UserError(
            f"{rows.place(missing[0])} has no label ({len(missing)} of {len(labels)} images have none); add it or remove the row"
        )
    if _ODD in known.values():
        odd = labels.index(_ODD)
        raise UserError(
            f"{rows.place(odd)} has the label {rows.labels[odd]!r}; expected the name of a class or a whole number"
        )
    names = [label for label in labels if label is not None]
    strange = set(names).difference(map(_clean, classes)) if classes else ()
    if strange:
        wrong = next(position for position, name in enumerate(names) if name in strange)
        raise UserError(
            f"{rows.place(wrong)} has the label {names[wrong]}, expected 0 to {len(classes) - 1}; correct it or remove the row"
        )
    return names


_HIDDEN = ("", "-1")
_ODD = "\0"  # not one class


def _label(value: Any) -> str | None:
    """A label as the name of a class; None if it is missing or hidden; `_ODD` if it is neither a word nor a whole number."""
    if isinstance(value, float):
        if math.isnan(value):
            return None
        value = int(value) if value.is_integer() else _ODD
    if value is None or isinstance(value, (str, int, np.integer, np.bool_)):
        text = "" if value is None else _clean(str(value))
        return None if text in _HIDDEN else text
    return _ODD


def _clean(name: str) -> str:
    """A class name in one Unicode form, without spaces around it; bytes outside UTF-8 are written as \\xNN."""
    if name.isascii():
        return name.strip()
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return unicodedata.normalize("NFC", text).strip()


def _ordered(labels: Sequence[Any]) -> list[str]:
    names = set(labels)
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else sorted(names)


def _set(rows: Rows, labels: Sequence[str], index: Mapping[str, int]) -> ImageSet:
    """The images, sorted by class and name."""
    numbers = [index[label] for label in labels]
    images = encoded_set(rows.names, numbers, rows.sources(rows.names))
    keys = list(zip(numbers, images.stems, rows.names, strict=True))
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return images if order == list(range(len(keys))) else images.select(order)


def _doubt(train: ImageSet, test: ImageSet | None, names: Sequence[str], report: Report) -> None:
    """Write down what is unusual about the classes."""
    counts = np.bincount(train.labels, minlength=len(names)).tolist()
    total = sum(counts)
    kinds = {name: data_kind(PurePath(name)) for name in names}
    as_splits = {TRAIN} < set(kinds.values()) - {None}  # such as train_cat, train_dog, test_cat
    odd = [n for n in names if n.lower() in _SUSPICIOUS | EXTRA or split_kind(n) or (as_splits and kinds[n])]
    if len(names) == 1:
        report.doubts.append(
            f"there is one class only ({names[0]}); say with --classes-from what names the class"
        )
    elif max(counts) >= _MOST_OF_ALL * total and total >= _MANY:
        name = names[counts.index(max(counts))]
        report.doubts.append(f"{max(counts)} of {total} training images are in the class {name}")
    if max(counts) == 1 and len(names) > _MOST:
        report.doubts.append(
            f"each of the {len(names)} classes has one training image; are these labels classes?"
        )
    if odd:
        report.doubts.append(
            f"classes are called {shortened(odd, _MOST)}; if these are no classes, give --classes-from"
        )
    for kind, images in (("training", train), ("test", test)):
        seen = set(images.labels.tolist()) if images is not None else set(range(len(names)))
        absent = [name for position, name in enumerate(names) if position not in seen]
        if absent:
            report.doubts.append(f"no {kind} images for {shortened(absent, _MOST)}")
