"""The table of a run as it fills, while its jobs run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ppflow.jobs import Graph, Outcomes
from ppflow.statistics import Row


class LiveTable:
    """A row's accuracies seed by seed below the log: redrawn in place on a terminal; elsewhere a line for every row that is full."""

    def __init__(self, graph: Graph) -> None:
        self._rows = graph.rows
        self._full: set[tuple[str, str]] = set()
        self._console = Console(stderr=True, highlight=False, markup=False)
        # a dumb terminal (TERM=dumb: an editor's shell, many CI runners) cannot move its cursor
        self._redraws = self._console.is_terminal and not self._console.is_dumb_terminal
        self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> LiveTable:
        if self._redraws:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, outcomes: Outcomes, line: str) -> None:
        """`line` about the job that came to its end last, and what is known by now."""
        if self._redraws:
            self._console.print(line)
            self._live.update(self._table(outcomes), refresh=True)
            return
        print(line, file=sys.stderr, flush=True)
        for (group, label), seeds in self._rows.items():
            known = _known(outcomes, seeds)
            if len(known) == len(seeds) and (group, label) not in self._full:
                self._full.add((group, label))
                print(f"    {f'{group} {label}'.strip()}: {_cell(known)}", file=sys.stderr, flush=True)

    def _table(self, outcomes: Outcomes) -> Table:
        table = Table("so far, accuracy %", box=None, pad_edge=False)
        for seed in next(iter(self._rows.values()), {}):
            table.add_column(f"seed {seed}", justify="right")
        table.add_column("mean", justify="right")
        for (group, label), seeds in self._rows.items():
            known = _known(outcomes, seeds)
            cells = [f"{known[seed]:.1f}" if seed in known else "" for seed in seeds]
            table.add_row(f"{group} {label}".strip(), *cells, _cell(known))
        return table


def _known(outcomes: Outcomes, seeds: Mapping[int, str]) -> dict[int, float]:
    """Seed -> accuracy in percent, of the jobs of a row that have one by now."""
    done = {seed: outcomes.done[digest].accuracy for seed, digest in seeds.items() if digest in outcomes.done}
    return {seed: 100 * accuracy for seed, accuracy in done.items() if accuracy is not None}


def _cell(known: dict[int, float]) -> str:
    """`83.3 ± 1.5 (5 seeds)`."""
    if not known:
        return ""
    row = Row("", known)
    spread = f" ± {row.std:.1f}" if len(known) > 1 else ""
    return f"{row.mean:.1f}{spread} ({len(known)} seed{'s' * (len(known) > 1)})"
