"""What is known about a collection of images while it is read: the user's options, the names of splits, and what was noticed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import PurePath
from urllib.parse import parse_qsl, urlencode

from ppcore.console import shortened
from ppcore.errors import UserError

TRAIN, TEST, VAL = "train", "test", "val"
_SPLITS = {
    TRAIN: (TRAIN, "training", "trn"),
    TEST: (TEST, "testing", "tst"),
    VAL: (VAL, "validation", "valid", "dev", "eval", "evaluation"),
}
_KINDS = {
    f"{name}{end}": kind for kind, names in _SPLITS.items() for name in names for end in ("", "set", "data")
}
EXTRA = {"unlabeled", "unlabelled", "unsup", "unsupervised", "extra", "background", "masks", "annotations"}
"""Folders beside those of splits that hold no labelled images."""
# Words beside the name of a split, as in `seg_train`, `train_images`, `training set`.
_FILLERS = {"set", "images", "image", "imgs", "img", "data", "dataset", "split", "folder", "seg"}
_LONGEST = 16  # characters of a name in an error
_QUERY = re.compile(r"\?(?=(?:classes-from|image-column|label-column|split)=)")


def split_kind(name: str) -> str | None:
    """`train`, `test`, `val`, or None if a folder, a file without suffix or a value of a column is not named after a split."""
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word and word not in _FILLERS]
    return _KINDS.get(words[0]) if len(words) == 1 else None


def data_kind(file: PurePath) -> str | None:
    """The kind of split of a data file: by its name, such as `train-00000-of-00002` or `labels_test`, else by its folders."""
    name = file.stem.lower().removesuffix(".tar")
    words = [word for word in re.split(r"[^a-z]+", name) if word and word not in _FILLERS]
    by_name = [_KINDS[word] for word in (*words[:1], *words[-1:]) if word in _KINDS]
    by_folder = [kind for part in file.parts[:-1] if (kind := split_kind(part))]
    return next(iter([*by_name, *by_folder]), None)


@dataclass(frozen=True)
class ReadOptions:
    """How a target is read if its files leave a choice; empty values are decided by the files.

    Attributes:
        classes_from: `folder:N`, the N-th folder of an image below its split (-1 is the last one; `folder` is `folder:1`);
            `column:NAME` of a table; `regex:PATTERN`, whose group is the class, searched in the path of an image.
        image_column, label_column: names of columns of tables and parquet files; the label column is also a key of JSON labels in tars.
        split: `none` (no folder or column is a split), `folder`, or `column:NAME`.
    """

    classes_from: str = ""
    image_column: str = ""
    label_column: str = ""
    split: str = ""

    def __post_init__(self) -> None:
        if self.classes_from and not re.fullmatch(
            r"folder(:-?[1-9]\d*)?|column:.+|regex:.+", self.classes_from
        ):
            raise UserError(
                f"unknown --classes-from {self.classes_from!r}; expected folder, folder:N, column:NAME or regex:PATTERN"
            )
        if self.split and not re.fullmatch(r"none|folder|column:.+", self.split):
            raise UserError(f"unknown --split {self.split!r}; expected none, folder or column:NAME")
        if self.pattern is not None and self.pattern.groups != 1:
            raise UserError(
                f"--classes-from {self.classes_from!r} has {self.pattern.groups} groups; put one pair of parentheses around the class"
            )

    @property
    def by_folder(self) -> int:
        """N of `folder:N`; 0 if the classes are not asked from folders."""
        kind, _, number = self.classes_from.partition(":")
        return int(number or 1) if kind == "folder" else 0

    @property
    def pattern(self) -> re.Pattern[str] | None:
        """The pattern of `regex:PATTERN`. Raises UserError if it is none."""
        if not self.classes_from.startswith("regex:"):
            return None
        try:
            return re.compile(self.classes_from.removeprefix("regex:"))
        except re.error as error:
            raise UserError(
                f"--classes-from {self.classes_from!r} is not a regular expression ({error}); correct it"
            ) from error

    @property
    def label(self) -> str:
        """The column of the labels that was asked for, or ""."""
        return self.label_column or (
            self.classes_from.removeprefix("column:") if self.classes_from.startswith("column:") else ""
        )

    @property
    def split_column(self) -> str:
        """The column of the splits that was asked for, or ""."""
        return self.split.removeprefix("column:") if self.split.startswith("column:") else ""


def parse_spec(spec: str) -> tuple[str, ReadOptions]:
    """`PLACE?classes-from=folder:2&split=none` -> (PLACE, the options). Values are percent-encoded as in a URL.

    Raises:
        UserError: an option has a value that is not known.
    """
    place, *query = _QUERY.split(spec, maxsplit=1)
    given = dict(parse_qsl(query[0], keep_blank_values=True)) if query else {}
    names = {item.name.replace("_", "-"): item.name for item in fields(ReadOptions)}
    strange = sorted(given.keys() - names.keys())
    if strange:
        raise UserError(
            f"target {place!r} has the unknown option {strange[0]!r}; expected {', '.join(names)}"
        )
    return place, ReadOptions(**{names[key]: value for key, value in given.items()})


def with_options(spec: str, given: Mapping[str, str | None]) -> str:
    """`spec` with these options of :class:`ReadOptions` written behind it; None and "" change nothing.

    Raises:
        UserError: an option has a value that is not known.
    """
    place, options = parse_spec(spec)
    options = replace(options, **{name: value for name, value in given.items() if value})
    chosen = {f.name.replace("_", "-"): getattr(options, f.name) for f in fields(options)}
    query = urlencode({name: value for name, value in chosen.items() if value}, safe=":/")
    return f"{place}?{query}" if query else place


@dataclass
class Report:
    """What was noticed while a collection was read, one sentence each.

    Attributes:
        notes: which reader was taken, and which files are not used.
        doubts: reasons why the reading may not be what the user means.
    """

    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


def ambiguous(place: object, first: str, first_option: str, second: str, second_option: str) -> UserError:
    """The error for two plausible readings."""
    return UserError(
        f"{place} can be read in two ways: {first} ({first_option}), or {second} ({second_option}); give one of these options"
    )


def few(names: Iterable[str]) -> str:
    """The first three names, each cut to 16 characters, and how many more there are."""
    return shortened([name if len(name) <= _LONGEST else f"{name[: _LONGEST - 3]}..." for name in names], 3)
