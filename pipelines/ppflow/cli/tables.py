"""Tables of finished experiments: printed again, and two experiments against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ppcore.errors import UserError
from ppflow.jobs import correct_images
from ppflow.statistics import FORMATS, Result, Results, make_table, read_results

RESULTS = "results.csv"


def print_table(run: str, form: str, compare: Sequence[str]) -> None:
    """Print the table of a directory of results or of a CSV file.

    Raises:
        UserError: no results there, an unknown form, or a row of comparison that is not there.
    """
    _require_form(form)
    results, correct = _read(Path(run))
    print(FORMATS[form](make_table(results, correct, compare or None)))


def print_comparison(first: str, second: str, form: str) -> None:
    """Print the rows that both have, the second against the first, paired seed by seed.

    Raises:
        UserError: no results, an unknown form, or no row in common.
    """
    _require_form(form)
    a, b = _read(Path(first)), _read(Path(second))
    shared = [label for label in b[0].rows if label in a[0].rows]
    if not shared:
        raise UserError(
            f"{first} and {second} have no row in common; compare runs of recipes that name their rows alike"
        )
    names = [_short(first), _short(second)]
    if names[0] == names[1]:
        names = [first, second]
    entries, correct = [], {}
    for name, (results, images) in zip(names, (a, b), strict=True):
        for e in results.entries:
            if e.row in shared:
                group = f"{e.group}, {e.row}" if e.group else e.row
                entries.append(Result(group, name, e.seed, e.accuracy, e.images))
                correct[group, name] = images.get((e.group, e.row), {})
    both = {e.group for e in entries if e.row == names[0]} & {e.group for e in entries if e.row == names[1]}
    kept = Results(tuple(e for e in entries if e.group in both), (names[0],))
    print(FORMATS[form](make_table(kept, correct)))


def _read(path: Path) -> tuple[Results, Mapping[tuple[str, str], Mapping[int, np.ndarray]]]:
    if path.is_dir():
        return read_results(path / RESULTS), correct_images(path)
    return read_results(path), {}


def _short(run: str) -> str:
    path = Path(run)
    return path.parent.name if path.name == RESULTS else path.stem


def _require_form(form: str) -> None:
    if form not in FORMATS:
        raise UserError(f"unknown format {form!r}; expected one of {', '.join(FORMATS)}")
