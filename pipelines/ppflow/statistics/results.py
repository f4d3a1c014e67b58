"""The CSV file of an experiment: one line for each result, with its seed."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ppcore.errors import UserError
from ppcore.storage import convert

_COLUMNS = ("group", "row", "seed", "accuracy", "images", "compare")
_NEEDED = ("row", "seed", "accuracy")


@dataclass(frozen=True)
class Result:
    """Accuracy of one trained classifier on the test images.

    Attributes:
        group: point of the recipe's grid, "" without a grid; only rows of the same group are compared.
        accuracy: percent.
        images: number of test images; None if the file does not say.
    """

    group: str
    row: str
    seed: int
    accuracy: Annotated[float, Field(allow_inf_nan=False)]
    images: int | None = None


@dataclass(frozen=True)
class Results:
    """All results of an experiment, and the labels of the rows that the others are compared with."""

    entries: tuple[Result, ...]
    compare: tuple[str, ...] = ()

    @property
    def rows(self) -> list[str]:
        """Labels in the order of the entries."""
        return list(dict.fromkeys(entry.row for entry in self.entries))

    @property
    def groups(self) -> list[str]:
        return list(dict.fromkeys(entry.group for entry in self.entries))

    def of(self, group: str, row: str) -> dict[int, float]:
        """Seed -> accuracy in percent."""
        return {e.seed: e.accuracy for e in self.entries if (e.group, e.row) == (group, row)}


def results_csv(results: Results) -> str:
    """The text of a CSV file for :func:`read_results`; accuracies with four decimals."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for entry in results.entries:
        images = "" if entry.images is None else entry.images
        compare = int(entry.row in results.compare)
        writer.writerow([entry.group, entry.row, entry.seed, f"{entry.accuracy:.4f}", images, compare])
    return buffer.getvalue()


def read_results(path: Path) -> Results:
    """Results from their CSV; the columns `group`, `images` and `compare` may be missing.

    Raises:
        UserError: the file cannot be read or has no results, or a line has no row, seed or accuracy, or two lines are of the same row
            and seed.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
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
    entries: dict[tuple[str, str, int], Result] = {}
    compare = []
    for number, line in enumerate(lines, 2):
        values = {name: line.get(name) for name in _COLUMNS if name != "compare"}
        values |= {"group": values["group"] or "", "images": values["images"] or None}
        try:
            entry = convert(Result, values)
        except ValueError as error:
            raise UserError(
                f"{path}, line {number} is not a result ({error}); expected a row, a seed and an accuracy"
            ) from error
        if (entry.group, entry.row, entry.seed) in entries:
            raise UserError(f"{path} holds two results of {entry.row!r} with seed {entry.seed}; remove one")
        entries[entry.group, entry.row, entry.seed] = entry
        if line.get("compare") == "1":
            compare.append(entry.row)
    return Results(tuple(entries.values()), tuple(dict.fromkeys(compare)))
