"""Rows of a table: means over seeds, and differences paired seed by seed with 95 % intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from scipy import special

from ppcore.errors import UserError
from ppflow.statistics.bootstrap import Correct, image_interval
from ppflow.statistics.results import Results

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """A row against another over the seeds that both have.

    Attributes:
        mean, std: of the differences, points.
        half: half the width of the mean's 95 % interval (Student's t over the seeds); infinite for one seed.
        wins: seeds in which the row is better.
        p: two-sided, of the paired t test; NaN for one seed.
        holm: `p` adjusted for all differences to the same row in the table (Holm 1979).
        images: 95 % interval over test images (:func:`image_interval`), None where their predictions are not known.
    """

    mean: float
    std: float
    half: float
    wins: int
    seeds: int
    p: float = math.nan
    holm: float = math.nan
    images: tuple[float, float] | None = None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean difference; it says nothing of the choice among several rows."""
        return self.mean - self.half, self.mean + self.half

    @property
    def sure(self) -> bool:
        """Whether the difference is significant at 5 % also among all that the table compares."""
        return self.holm < 1 - CONFIDENCE


@dataclass(frozen=True)
class Row:
    """One row: accuracy in percent by seed, and the difference to every row of comparison but itself."""

    label: str
    values: Mapping[int, float]
    differences: dict[str, Difference] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError(f"row {self.label!r} has no seed; a result without its seeds cannot be shown")

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted(self.values))

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values.values())

    @property
    def std(self) -> float:
        """Sample standard deviation (n - 1); 0 for one seed."""
        return statistics.stdev(self.values.values()) if len(self.values) > 1 else 0.0


@dataclass(frozen=True)
class Table:
    """Group of the grid ("" without a grid) -> its rows; the rows that others are compared with."""

    groups: dict[str, list[Row]]
    compare: tuple[str, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """All that occur."""
        return tuple(sorted({seed for rows in self.groups.values() for row in rows for seed in row.values}))


def make_table(
    results: Results,
    correct: Mapping[tuple[str, str], Correct] | None = None,
    compare: Sequence[str] | None = None,
) -> Table:
    """The table of results.

    Args:
        correct: (group, row) -> which test images each seed got right, where known.
        compare: other rows of comparison than the results name.

    Raises:
        UserError: a row of comparison that is not there, or no results at all.
    """
    chosen = tuple(results.compare if compare is None else compare)
    for label in chosen:
        if label not in results.rows:
            raise UserError(
                f"there is no row {label!r} to compare with; expected some of {', '.join(results.rows)}"
            )
    if not results.entries:
        raise UserError("there are no results to show; run the recipe first")
    groups = {}
    for group in results.groups:
        values = {row: found for row in results.rows if (found := results.of(group, row))}
        known = {row: (correct or {}).get((group, row), {}) for row in values}
        groups[group] = [_row(row, values, chosen, known) for row in values]
    return Table(_with_holm(groups, chosen), chosen)


def paired(values: Mapping[int, float], base: Mapping[int, float]) -> Difference | None:
    """The difference over the seeds that both have, None where there is none."""
    deltas = [values[seed] - base[seed] for seed in sorted(values.keys() & base.keys())]
    count = len(deltas)
    if not count:
        return None
    mean, std = statistics.fmean(deltas), statistics.stdev(deltas) if count > 1 else 0.0
    error = std / math.sqrt(count)
    half = float(special.stdtrit(count - 1, 0.5 + CONFIDENCE / 2)) * error if count > 1 else math.inf
    p = math.nan
    if count > 1:
        p = float(2 * special.stdtr(count - 1, -abs(mean) / error)) if error else float(mean == 0)
    return Difference(mean, std, half, sum(delta > 0 for delta in deltas), count, p)


def holm(values: Sequence[float]) -> list[float]:
    """p values adjusted for their number, step down (Holm 1979); NaN stays and does not count."""
    known = sorted((p, i) for i, p in enumerate(values) if not math.isnan(p))
    adjusted, largest = list(values), 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[i] = largest
    return adjusted


def _row(
    label: str, values: Mapping[str, dict[int, float]], compare: Sequence[str], correct: Mapping[str, Correct]
) -> Row:
    differences = {}
    for other in compare:
        found = paired(values[label], values[other]) if other != label and other in values else None
        if found is not None:
            differences[other] = replace(found, images=image_interval(correct[label], correct[other]))
    return Row(label, values[label], differences)


def _with_holm(groups: dict[str, list[Row]], compare: Sequence[str]) -> dict[str, list[Row]]:
    """Every column of differences is one family."""
    adjusted: dict[tuple[str, str, str], float] = {}
    for other in compare:
        family = [
            (group, row.label, other)
            for group, rows in groups.items()
            for row in rows
            if other in row.differences
        ]
        found = {(g, row.label): row.differences for g, rows in groups.items() for row in rows}
        ps = holm([found[group, label][other].p for group, label, _ in family])
        adjusted |= dict(zip(family, ps, strict=True))
    return {
        group: [
            replace(
                row,
                differences={
                    other: replace(delta, holm=adjusted[group, row.label, other])
                    for other, delta in row.differences.items()
                },
            )
            for row in rows
        ]
        for group, rows in groups.items()
    }
