"""Statistics of results: means over seeds, differences paired seed by seed, their intervals over seeds and over test images."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import special

from ppcore.errors import UserError
from ppflow.statistics.results import Results

CONFIDENCE = 0.95
_DRAWS = 10_000  # of the bootstrap

Correct = Mapping[int, np.ndarray]
"""Seed -> bool (N,): which of the N test images its classifier got right; the order of the images is the same for all seeds."""


@dataclass(frozen=True)
class Difference:
    """A row minus another one, over the seeds that both have.

    Attributes:
        mean, std: of the differences of the seeds, points.
        half: half the width of the 95 % interval of the mean (Student's t over the seeds); infinite for one seed.
        wins: seeds in which the row is better.
        p: two-sided p value of the paired t test; NaN for one seed.
        holm: `p` adjusted for all differences to the same row in the table (Holm 1979).
        images: 95 % interval over test images (:func:`image_interval`); None if the predictions are not known.
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
        """The 95 % interval of the mean difference, not adjusted for the number of rows."""
        return self.mean - self.half, self.mean + self.half

    @property
    def significant(self) -> bool:
        """Whether the difference is significant at 5 %, adjusted for all differences in its column."""
        return self.holm < 1 - CONFIDENCE


@dataclass(frozen=True)
class Row:
    """One row of a table: seed -> accuracy in percent, and row of comparison -> the difference to it."""

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
        """Sample standard deviation (n - 1), percent; 0 for one seed."""
        return statistics.stdev(self.values.values()) if len(self.values) > 1 else 0.0


@dataclass(frozen=True)
class Table:
    """A table of results.

    Attributes:
        groups: point of the grid ("" without a grid) -> its rows.
        compare: labels of the rows that the others are compared with.
    """

    groups: dict[str, list[Row]]
    compare: tuple[str, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Every seed that some row has."""
        return tuple(sorted({seed for rows in self.groups.values() for row in rows for seed in row.values}))


def make_table(
    results: Results,
    correct: Mapping[tuple[str, str], Correct] | None = None,
    compare: Sequence[str] | None = None,
) -> Table:
    """The table of results.

    Args:
        correct: (group, row) -> which test images each seed got right, if known.
        compare: rows of comparison in place of those that the results name.

    Raises:
        UserError: there are no results, or a row of comparison does not exist.
    """
    compare = tuple(results.compare if compare is None else compare)
    for label in compare:
        if label not in results.rows:
            raise UserError(
                f"there is no row {label!r} to compare with; expected one of {', '.join(results.rows)}"
            )
    if not results.entries:
        raise UserError("there are no results to show; run the recipe first")
    groups = {}
    for group in results.groups:
        values = {row: seeds for row in results.rows if (seeds := results.of(group, row))}
        images = {row: (correct or {}).get((group, row), {}) for row in values}
        groups[group] = [_row(row, values, compare, images) for row in values]
    for other in compare:
        _adjust(
            [row.differences for rows in groups.values() for row in rows if other in row.differences], other
        )
    return Table(groups, compare)


def paired(values: Mapping[int, float], base: Mapping[int, float]) -> Difference | None:
    """The difference over the seeds that both have; None if they have none in common."""
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
    """p values adjusted for their number, step down (Holm 1979). NaN stays NaN and does not count."""
    known = sorted((p, i) for i, p in enumerate(values) if not math.isnan(p))
    adjusted, largest = list(values), 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[i] = largest
    return adjusted


def _row(
    label: str, values: Mapping[str, dict[int, float]], compare: Sequence[str], images: Mapping[str, Correct]
) -> Row:
    differences = {}
    for other in compare:
        delta = paired(values[label], values[other]) if other != label and other in values else None
        if delta is not None:
            differences[other] = replace(delta, images=image_interval(images[label], images[other]))
    return Row(label, values[label], differences)


def _adjust(column: Sequence[dict[str, Difference]], other: str) -> None:
    """Set the adjusted p values of one column of differences, over all groups of the table."""
    for differences, p in zip(column, holm([row[other].p for row in column]), strict=True):
        differences[other] = replace(differences[other], holm=p)


def image_interval(
    row: Correct, other: Correct, confidence: float = CONFIDENCE
) -> tuple[float, float] | None:
    """Interval of the mean difference in points over test images: percentile bootstrap (Efron 1979), the seeds kept.

    Student's interval over seeds does not contain this uncertainty, because all seeds are tested on the same images. Images with
    the same difference are interchangeable, so their counts are drawn from a multinomial distribution, whatever N is.

    Returns:
        (low, high); None if the rows have no seed in common or their numbers of test images differ.
    """
    seeds = sorted(row.keys() & other.keys())
    if not seeds or len({len(correct[seed]) for seed in seeds for correct in (row, other)}) != 1:
        return None
    deltas = np.stack([row[seed].astype(int) - other[seed].astype(int) for seed in seeds])  # (S, N)
    values, counts = np.unique(deltas.sum(0), return_counts=True)
    images = int(counts.sum())
    drawn = np.random.default_rng(0).multinomial(images, counts / images, size=_DRAWS)  # (draws, values)
    means = 100 * (drawn @ values) / (images * len(seeds))
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)
