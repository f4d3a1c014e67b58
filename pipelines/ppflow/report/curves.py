"""The learning curves of an experiment: means over seeds of what its training runs logged."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

Curves = dict[str, list[tuple[float, float]]]
"""Row of the table -> (step, value) points."""
LINES = 8  # on one chart


def mean_curves(runs: Mapping[str, Sequence[Path]], column: str) -> Curves:
    """Mean over runs of a column of metrics.csv, for every row that has it; accuracies in percent.

    Args:
        runs: row of the table -> its run directories, one a seed.
    """
    curves: Curves = {}
    for label, folders in runs.items():
        read = [_read_column(folder, column) for folder in folders]
        line = _mean_curve([run for run in read if run])
        if line:
            curves[label] = line
    return curves


def legible(curves: Curves, compare: Sequence[str]) -> list[Curves]:
    """The curves on as many charts as it takes, the rows of comparison on each."""
    if len(curves) <= LINES:
        return [curves]
    shared = {label: line for label, line in curves.items() if label in compare}
    rest = [label for label in curves if label not in compare]
    room = max(1, LINES - len(shared))
    return [
        {**shared, **{label: curves[label] for label in rest[first : first + room]}}
        for first in range(0, len(rest), room)
    ]


def _read_column(folder: Path, column: str) -> dict[int, float]:
    path = folder / "metrics.csv"
    if not path.is_file():
        return {}
    scale = 100.0 if column.endswith("accuracy") else 1.0
    with path.open(newline="") as handle:
        return {
            int(row["step"]): scale * float(row[column]) for row in csv.DictReader(handle) if row.get(column)
        }


def _mean_curve(runs: Sequence[dict[int, float]]) -> list[tuple[float, float]]:
    steps = sorted(set.intersection(*(set(run) for run in runs))) if runs else []
    return [(step, statistics.fmean(run[step] for run in runs)) for step in steps]
