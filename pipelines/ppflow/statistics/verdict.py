"""What a row was worth, in sentences: against every row of comparison, and whether that is sure."""

from __future__ import annotations

import math

from ppflow.statistics.comparisons import Difference, Table


def verdict(table: Table, label: str) -> list[str]:
    """Sentences on one row, for every group of the table that has it."""
    out = []
    for group, rows in table.groups.items():
        place = f" ({group})" if group else ""
        for row in rows:
            if row.label == label:
                seeds = f"{len(row.seeds)} seed{'s' if len(row.seeds) > 1 else ''}"
                out.append(f"{label}{place}: {row.mean:.1f} % on the test images, mean of {seeds}.")
                out += [f"Against {other}: {_worth(delta)}." for other, delta in row.differences.items()]
    return out


def _worth(delta: Difference) -> str:
    """`+5.3 points, surely better (95 % interval +2.1 to +8.5 over 3 seeds)`."""
    points = f"{delta.mean:+.1f} points"
    if not math.isfinite(delta.half):
        return f"{points}; one seed cannot say whether that is sure, run more with --seeds"
    low, high = delta.interval
    interval = f"95 % interval {low:+.1f} to {high:+.1f} over {delta.seeds} seeds"
    better = "better" if delta.mean > 0 else "worse"
    if delta.sure:
        return f"{points}, surely {better} ({interval}, also among all that the table compares)"
    if low > 0 or high < 0:
        return f"{points}, probably {better} ({interval}; not beyond doubt among all that the table compares)"
    return f"{points}, which may be chance ({interval}); more seeds or test images would tell"
