"""The table of a run as it fills, while its jobs run."""

from __future__ import annotations

import statistics
import sys
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ppflow.jobs import Graph, Outcomes


class LiveTable:
    """A row's accuracies seed by seed below the log: redrawn in place on a terminal; elsewhere a line for every row that is full."""

    def __init__(self, graph: Graph) -> None:
        self._rows = graph.rows
        self._full: set[tuple[str, str]] = set()
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> LiveTable:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, outcomes: Outcomes, line: str) -> None:
        """`line` about the job that came to its end last, and what is known by now."""
        if self._console.is_terminal:
            self._console.print(line)
            self._live.update(self._table(outcomes), refresh=True)
            return
        print(line, file=sys.stderr, flush=True)
        for row in self._rows:
            found = self._found(outcomes, row)
            if row not in self._full and None not in found:
                self._full.add(row)
                print(f"    {' '.join(filter(None, row))}: {_cell(found)}", file=sys.stderr, flush=True)

    def _found(self, outcomes: Outcomes, row: tuple[str, str]) -> list[float | None]:
        """Accuracies in percent, seed by seed; None where there is none yet."""
        done = [outcomes.done.get(digest) for digest in self._rows[row].values()]
        return [
            None if job is None or job.result.accuracy is None else 100 * job.result.accuracy for job in done
        ]

    def _table(self, outcomes: Outcomes) -> Table:
        table = Table("so far, accuracy %", box=None, pad_edge=False)
        for seed in next(iter(self._rows.values()), {}):
            table.add_column(f"seed {seed}", justify="right")
        table.add_column("mean", justify="right")
        for row in self._rows:
            found = self._found(outcomes, row)
            cells = ["" if accuracy is None else f"{accuracy:.1f}" for accuracy in found]
            table.add_row(" ".join(filter(None, row)), *cells, _cell(found))
        return table


def _cell(found: list[float | None]) -> str:
    """`83.3 ± 1.5 (5 seeds)`."""
    known = [accuracy for accuracy in found if accuracy is not None]
    if not known:
        return ""
    spread = f" ± {statistics.stdev(known):.1f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.1f}{spread} ({len(known)} seed{'s' * (len(known) > 1)})"
