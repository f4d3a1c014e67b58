"""A table of results as Markdown, CSV, LaTeX or JSON, always with its seeds, and sentences about one of its rows."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from ppflow.statistics.comparisons import Difference, Row, Table


def header(compare: Sequence[str]) -> list[str]:
    return ["", "accuracy %", *(f"minus {other} [95 %]" for other in compare)]


def cells(row: Row, compare: Sequence[str], seeds: Sequence[int] | None = None) -> list[str]:
    """The row as text: `90.4 ± 1.9` (mean and standard deviation), `+9.7 [+7.1, +12.3]* (5/5)` (difference, 95 % interval, seeds won).

    A row that lacks some of `seeds` names the seeds that it has.
    """
    some = "" if seeds is None or len(row.values) == len(seeds) else f" (seeds {_ranges(row.seeds)} only)"
    deviation = f" ± {row.std:.1f}" if len(row.values) > 1 else ""
    deltas = [row.differences.get(other) for other in compare]
    differences = ["" if delta is None else _difference_text(delta) for delta in deltas]
    return [row.label, f"{row.mean:.1f}{deviation}{some}", *differences]


def explain(table: Table) -> str:
    """The line under a table: its seeds, and the meaning of the signs."""
    seeds = table.seeds
    text = f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''} ({_ranges(seeds)})"
    if len(seeds) > 1:
        text += "; ± standard deviation over seeds"
    if table.compare and len(seeds) > 1:
        text += "; differences seed by seed with Student's 95 % interval, (seeds won/seeds); "
        text += "* significant at 5 % after Holm's correction for the column"
    return text + "."


def as_text(table: Table) -> str:
    """Markdown tables with aligned columns, a heading for every group, the seeds below."""
    parts = []
    for group, rows in table.groups.items():
        drawn = _aligned([header(table.compare), *(cells(row, table.compare, table.seeds) for row in rows)])
        parts.append(f"{group}:\n\n{drawn}" if group else drawn)
    return "\n\n".join([*parts, explain(table)])


def _as_csv(table: Table) -> str:
    """One line for each row and comparison, in percent and points."""
    records = [record for row in _records(table) for record in _flat(row)]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return buffer.getvalue().rstrip("\n")


def _as_json(table: Table) -> str:
    content = {"unit": "percent", "compare": list(table.compare), "rows": _records(table)}
    return json.dumps(content, indent=1)


def _as_latex(table: Table) -> str:
    """A tabular for booktabs."""
    columns = "l" * (2 + len(table.compare))
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _latex_line(header(table.compare)), r"\midrule"]
    for number, (group, rows) in enumerate(table.groups.items()):
        if group:
            rule = [r"\midrule"] if number else []
            lines += [*rule, rf"\multicolumn{{{len(columns)}}}{{l}}{{\emph{{{_latex(group)}}}}} \\"]
        lines += [_latex_line(cells(row, table.compare, table.seeds)) for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", f"% {explain(table)}"])


def headline_sentences(table: Table, label: str) -> list[str]:
    """Sentences on one row for every group that has it: its accuracy, and its difference to every row of comparison."""
    sentences = []
    for group, rows in table.groups.items():
        for row in (row for row in rows if row.label == label):
            place = f" ({group})" if group else ""
            seeds = f"{len(row.seeds)} seed{'s' if len(row.seeds) > 1 else ''}"
            sentences.append(f"{label}{place}: {row.mean:.1f} % on the test images, mean of {seeds}.")
            sentences += [
                f"Against {other}: {_judgement(delta)}." for other, delta in row.differences.items()
            ]
    return sentences


def _judgement(delta: Difference) -> str:
    """`+5.3 points, significantly better (95 % interval +2.1 to +8.5 over 3 seeds)`."""
    points = f"{delta.mean:+.1f} points"
    if not math.isfinite(delta.half):
        return f"{points}; one seed cannot show whether this is chance, run more with --seeds"
    low, high = delta.interval
    interval = f"95 % interval {low:+.1f} to {high:+.1f} over {delta.seeds} seeds"
    better = "better" if delta.mean > 0 else "worse"
    if delta.significant:
        return (
            f"{points}, significantly {better} ({interval}; also after correction for all rows of the table)"
        )
    if low > 0 or high < 0:
        return f"{points}, probably {better} ({interval}; not significant after correction for all rows of the table)"
    return f"{points}, not significant ({interval}); use more seeds or more test images"


FORMATS: dict[str, Callable[[Table], str]] = {
    "markdown": as_text,
    "csv": _as_csv,
    "latex": _as_latex,
    "json": _as_json,
}


def _records(table: Table) -> list[dict[str, Any]]:
    return [
        {
            "group": group,
            "row": row.label,
            "seeds": list(row.seeds),
            "accuracy": [row.values[seed] for seed in row.seeds],
            "mean": row.mean,
            "std": row.std if len(row.seeds) > 1 else None,
            "differences": {other: _difference_record(delta) for other, delta in row.differences.items()},
        }
        for group, rows in table.groups.items()
        for row in rows
    ]


def _difference_record(delta: Difference) -> dict[str, Any]:
    low, high = delta.interval
    several = math.isfinite(delta.half)
    return {
        "mean": delta.mean,
        "low": low if several else None,
        "high": high if several else None,
        "p": delta.p if several else None,
        "p_holm": delta.holm if several else None,
        "wins": delta.wins,
        "seeds": delta.seeds,
        "images_low": delta.images[0] if delta.images else None,
        "images_high": delta.images[1] if delta.images else None,
    }


def _flat(record: dict[str, Any]) -> list[dict[str, Any]]:
    own = {name: record[name] for name in ("group", "row", "mean", "std")}
    own["seeds"] = _ranges(record["seeds"])
    empty = dict.fromkeys(_difference_record(Difference(0.0, 0.0, math.inf, 0, 1)))
    differences: dict[str, dict[str, Any]] = record["differences"] or {"": empty}
    return [
        own | {"versus": other} | {f"difference_{name}": value for name, value in delta.items()}
        for other, delta in differences.items()
    ]


def _difference_text(delta: Difference) -> str:
    low, high = delta.interval
    interval = f" [{low:+.1f}, {high:+.1f}]" if math.isfinite(delta.half) else ""
    return f"{delta.mean:+.1f}{interval}{'*' if delta.significant else ''} ({delta.wins}/{delta.seeds})"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    drawn = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    drawn.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(drawn)


def _ranges(numbers: Sequence[int]) -> str:
    """`0-4, 7`."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def _latex_line(texts: Sequence[str]) -> str:
    return " & ".join(map(_latex, texts)) + r" \\"


def _latex(text: str) -> str:
    for character in "\\&%$#_{}":
        text = text.replace(character, r"\textbackslash " if character == "\\" else f"\\{character}")
    return text.replace("±", r"$\pm$").replace("≥", r"$\geq$")
