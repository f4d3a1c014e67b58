"""`ppflow table` prints the table of a finished run again, `ppflow compare` compares two runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ppcore.errors import UserError
from ppflow.jobs import correct_images
from ppflow.statistics import FORMATS, Result, Results, make_table, read_results

_RESULTS = "results.csv"


def print_table(run: str, form: str, compare: Sequence[str]) -> None:
    """Print the table of a directory of results or of a CSV file.

    Args:
        compare: rows that the others are compared with; empty for those that the results name.

    Raises:
        UserError: the results cannot be read, or the format or a row of comparison does not exist.
    """
    _require_form(form)
    results, correct = _read(Path(run))
    print(FORMATS[form](make_table(results, correct, compare or None)))


def print_comparison(first: str, second: str, form: str) -> None:
    """Print the rows that both runs have, the second run minus the first, paired seed by seed.

    Raises:
        UserError: results cannot be read, the format does not exist, or the runs have no row in common.
    """
    _require_form(form)
    a, b = _read(Path(first)), _read(Path(second))
    names = [_short(first), _short(second)]
    if names[0] == names[1]:
        names = [first, second]
    # In the new table every old row is a group, and every run is a row of it.
    entries, correct = [], {}
    for name, (results, images) in zip(names, (a, b), strict=True):
        for e in results.entries:
            group = f"{e.group}, {e.row}" if e.group else e.row
            entries.append(Result(group, name, e.seed, e.accuracy, e.images))
            correct[group, name] = images.get((e.group, e.row), {})
    in_a, in_b = ({e.group for e in entries if e.row == name} for name in names)
    shared = tuple(e for e in entries if e.group in in_a & in_b)
    if not shared:
        raise UserError(
            f"{first} and {second} have no row in common; give runs of recipes whose rows have the same labels"
        )
    print(FORMATS[form](make_table(Results(shared, (names[0],)), correct)))


def _read(path: Path) -> tuple[Results, Mapping[tuple[str, str], Mapping[int, np.ndarray]]]:
    if path.is_dir():
        return read_results(path / _RESULTS), correct_images(path)
    return read_results(path), {}


def _short(run: str) -> str:
    path = Path(run)
    return path.parent.name if path.name == _RESULTS else path.stem


def _require_form(form: str) -> None:
    if form not in FORMATS:
        raise UserError(f"--format is {form!r}; expected one of {', '.join(FORMATS)}")
