"""The table of a run while its jobs run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ppflow.jobs import Graph, Outcomes
from ppflow.statistics import Row


@contextmanager
def live_table(graph: Graph) -> Iterator[Callable[[Outcomes, str], None]]:
    """A function that shows a line about a finished job, and the accuracies so far.

    A terminal shows the table below the lines and redraws it. A log, a pipe or a dumb terminal (TERM=dumb, which cannot move its
    cursor) shows one line for every row when all its seeds are finished.
    """
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    if console.is_terminal and not console.is_dumb_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as live:

            def redraw(outcomes: Outcomes, line: str) -> None:
                console.print(line)
                live.update(_table(graph, outcomes), refresh=True)

            yield redraw
        return
    complete: set[tuple[str, str]] = set()

    def print_lines(outcomes: Outcomes, line: str) -> None:
        console.print(line)
        for row, seeds in graph.rows.items():
            values = _accuracies(outcomes, seeds)
            if len(values) == len(seeds) and row not in complete:
                complete.add(row)
                console.print(f"    {' '.join(row).strip()}: {_summary(values)}")

    yield print_lines


def _table(graph: Graph, outcomes: Outcomes) -> Table:
    table = Table("so far, accuracy %", box=None, pad_edge=False)
    for seed in next(iter(graph.rows.values()), {}):
        table.add_column(f"seed {seed}", justify="right")
    table.add_column("mean", justify="right")
    for row, seeds in graph.rows.items():
        values = _accuracies(outcomes, seeds)
        cells = [f"{values[seed]:.1f}" if seed in values else "" for seed in seeds]
        table.add_row(" ".join(row).strip(), *cells, _summary(values))
    return table


def _accuracies(outcomes: Outcomes, seeds: Mapping[int, str]) -> dict[int, float]:
    """Seed -> accuracy in percent, of the finished jobs of a row."""
    results = {seed: outcomes.done[digest] for seed, digest in seeds.items() if digest in outcomes.done}
    return {seed: 100 * r.accuracy for seed, r in results.items() if r.accuracy is not None}


def _summary(values: dict[int, float]) -> str:
    """`83.3 ± 1.5 (5 seeds)`."""
    if not values:
        return ""
    row = Row("", values)
    spread = f" ± {row.std:.1f}" if len(values) > 1 else ""
    return f"{row.mean:.1f}{spread} ({len(values)} seed{'s' * (len(values) > 1)})"
