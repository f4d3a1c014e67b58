"""The small CSV of an experiment: one line a result, never without its seed."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ppcore.errors import UserError

_COLUMNS = ("group", "row", "seed", "accuracy", "images", "compare")
_NEEDED = ("row", "seed", "accuracy")


@dataclass(frozen=True)
class Result:
    """One trained classifier on the test images.

    Attributes:
        group: the point of the recipe's grid, "" without one; only rows of a group are compared.
        accuracy: percent.
        images: test images; None where an old file does not say.
    """

    group: str
    row: str
    seed: int
    accuracy: float
    images: int | None = None


@dataclass(frozen=True)
class Results:
    """All results of an experiment, and the rows that the others are compared with."""

    entries: tuple[Result, ...]
    compare: tuple[str, ...] = ()

    @property
    def rows(self) -> list[str]:
        """Labels in their order."""
        return list(dict.fromkeys(entry.row for entry in self.entries))

    @property
    def groups(self) -> list[str]:
        return list(dict.fromkeys(entry.group for entry in self.entries))

    def of(self, group: str, row: str) -> dict[int, float]:
        """Seed -> accuracy in percent."""
        return {e.seed: e.accuracy for e in self.entries if (e.group, e.row) == (group, row)}


def results_csv(results: Results) -> str:
    """The file that :func:`read_results` reads; accuracies keep four decimals."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for entry in results.entries:
        images = "" if entry.images is None else entry.images
        compare = int(entry.row in results.compare)
        writer.writerow([entry.group, entry.row, entry.seed, f"{entry.accuracy:.4f}", images, compare])
    return buffer.getvalue()


def read_results(path: Path) -> Results:
    """Results from their CSV; `group`, `images` and `compare` may be missing.

    Raises:
        UserError: no such file, no result in it, or a line without row, seed or accuracy, or two of the same.
    """
    try:
        with path.open(newline="") as handle:
            lines = list(csv.DictReader(handle))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path} cannot be read as a table of results ({error}); give a results.csv"
        ) from error
    missing = [name for name in _NEEDED if not lines or name not in lines[0]]
    if missing:
        raise UserError(
            f"{path} has no column {' and no column '.join(missing)}; expected results with {', '.join(_NEEDED)}"
        )
    entries = tuple(_entry(line, f"{path}, line {number}") for number, line in enumerate(lines, 2))
    _require_once(entries, path)
    compared = dict.fromkeys(
        e.row for e, line in zip(entries, lines, strict=True) if line.get("compare") == "1"
    )
    return Results(entries, tuple(compared))


def _entry(line: dict[str, str], where: str) -> Result:
    try:
        images = line.get("images") or None
        accuracy = float(line["accuracy"])
        if not math.isfinite(accuracy):
            raise ValueError(f"the accuracy {accuracy}")
        return Result(
            line.get("group") or "",
            line["row"],
            int(line["seed"]),
            accuracy,
            None if images is None else int(images),
        )
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{where} is no result ({error}); expected a row, a whole seed and a number"
        ) from error


def _require_once(entries: Iterable[Result], path: Path) -> None:
    seen: set[tuple[str, str, int]] = set()
    for entry in entries:
        key = (entry.group, entry.row, entry.seed)
        if key in seen:
            raise UserError(f"{path} holds two results of {entry.row!r} with seed {entry.seed}; remove one")
        seen.add(key)
