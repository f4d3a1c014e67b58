"""Rewrites the tables and plots of docs/results.md from the per-seed accuracies in docs/results/.

    python docs/tables.py              after `cp runs/NAME/results.csv docs/results/NAME.csv`

A table is between `<!-- table NAME -->` and `<!-- end -->`; `ppflow table docs/results/NAME.csv` prints the same table. A plot shows the
differences from the first comparison row, with 95 % intervals.
"""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib as mpl

from ppflow.statistics import Table, as_text, make_table, read_results

HERE = Path(__file__).parent
PAGE = HERE / "results.md"
_BLOCK = re.compile(r"(<!-- table ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rewritten(page: str) -> str:
    """The text of the page, with every table made again from its CSV file."""

    def block(match: re.Match[str]) -> str:
        name = match[2]
        return f"{match[1]}\n{as_text(table_of(name))}\n\n![differences with 95 % intervals](results/{name}.svg)\n\n{match[3]}"

    return _BLOCK.sub(block, page)


def table_of(name: str) -> Table:
    """The table made from docs/results/NAME.csv."""
    return make_table(read_results(HERE / "results" / f"{name}.csv"))


def plot(table: Table, path: Path) -> None:
    """Plot the differences from the first comparison row: a point, its interval, and a line at zero."""
    mpl.use("svg")
    from matplotlib import pyplot as plt  # after the backend is chosen

    base = table.compare[0]
    rows = [
        (f"{group}: {row.label}" if group else row.label, row.differences[base])
        for group, members in table.groups.items()
        for row in members
        if base in row.differences
    ]
    with plt.rc_context({"svg.hashsalt": path.stem, "font.size": 9}):
        figure, axes = plt.subplots(figsize=(7.5, 0.6 + 0.3 * len(rows)), layout="constrained")
        for position, (_, delta) in enumerate(reversed(rows)):
            low, high = delta.interval
            colour = "#1b7837" if low > 0 else "#b2182b" if high < 0 else "#666666"
            axes.plot([low, high], [position, position], color=colour, linewidth=2)
            axes.plot(delta.mean, position, "o", color=colour, markersize=5)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(rows)), [label for label, _ in reversed(rows)])
        axes.set_xlabel(f"points more than {base}")
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        plt.close(figure)


def main() -> None:
    """Rewrite the page and its plots."""
    page = PAGE.read_text(encoding="utf-8")
    for name in dict.fromkeys(match[2] for match in _BLOCK.finditer(page)):
        plot(table_of(name), HERE / "results" / f"{name}.svg")
    PAGE.write_text(rewritten(page), encoding="utf-8")


if __name__ == "__main__":
    main()
