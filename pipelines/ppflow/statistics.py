"""Results over seeds: mean, standard deviation, and differences paired seed by seed with their 95 % intervals."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """A row against another over the same seeds.

    Attributes:
        mean, std: of the differences, points.
        half: half the width of the mean's 95 % interval (Student's t over the seeds); infinite for one seed.
        wins: seeds in which the row is better.
    """

    mean: float
    std: float
    half: float
    wins: int
    seeds: int

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean difference; it says nothing of the choice among several rows."""
        return self.mean - self.half, self.mean + self.half


@dataclass(frozen=True)
class Row:
    """One row: values in percent by seed, and the difference to every row of comparison but itself."""

    label: str
    values: tuple[float, ...]
    differences: dict[str, Difference]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def std(self) -> float:
        """Sample standard deviation (n - 1); 0 for one seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0


def make_rows(results: Mapping[str, Sequence[float]], compare: Sequence[str]) -> list[Row]:
    """Rows from label -> one value a seed, every label over the same seeds in the same order."""
    return [
        Row(
            label,
            tuple(values),
            {other: _difference(values, results[other]) for other in compare if other != label},
        )
        for label, values in results.items()
    ]


def _difference(values: Sequence[float], base: Sequence[float]) -> Difference:
    deltas = [a - b for a, b in zip(values, base, strict=True)]
    count = len(deltas)
    std = statistics.stdev(deltas) if count > 1 else 0.0
    half = (
        float(stats.t.ppf(0.5 + _CONFIDENCE / 2, count - 1)) * std / math.sqrt(count)
        if count > 1
        else math.inf
    )
    return Difference(statistics.fmean(deltas), std, half, sum(delta > 0 for delta in deltas), count)


def header(compare: Sequence[str]) -> list[str]:
    return ["", "accuracy %", *(f"minus {other} [95 %]" for other in compare)]


def cells(row: Row, compare: Sequence[str]) -> list[str]:
    """The row as text: mean and standard deviation `90.4 ± 1.9`; difference, 95 % interval, seeds won `+9.7 [+7.1, +12.3] (5/5)`."""
    out = [row.label, f"{row.mean:.1f} ± {row.std:.1f}"]
    for other in compare:
        delta = row.differences.get(other)
        out.append("" if delta is None else _difference_text(delta))
    return out


def _difference_text(delta: Difference) -> str:
    low, high = delta.interval
    interval = f" [{low:+.1f}, {high:+.1f}]" if math.isfinite(delta.half) else ""
    return f"{delta.mean:+.1f}{interval} ({delta.wins}/{delta.seeds})"


def as_text(rows: Sequence[Row], compare: Sequence[str]) -> str:
    """A plain table with aligned columns, also valid Markdown."""
    lines = [header(compare), *(cells(row, compare) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    drawn = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    drawn.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(drawn)


def as_csv(rows: Sequence[Row], seeds: Sequence[int]) -> str:
    """One line a row and seed: row, seed, accuracy in percent."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["row", "seed", "accuracy"])
    for row in rows:
        writer.writerows(
            [row.label, seed, f"{value:.4f}"] for seed, value in zip(seeds, row.values, strict=True)
        )
    return buffer.getvalue()
