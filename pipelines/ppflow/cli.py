"""`ppflow`: run a named experiment."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from ppcore.console import run_app
from ppcore.errors import UserError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="A recipe's name (see `ppflow list`) or a YAML file.")],
    out: Annotated[Path | None, typer.Option(help="Directory of results [default: runs/<recipe>].")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Jobs at a time [default: one a core].")] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Run with seeds 0 to N - 1 instead of the recipe's.")
    ] = None,
) -> None:
    """Run every stage of a recipe, print its table, write results.csv and report.html.

    Finished stages are found again: after an interruption the same command resumes.
    """
    from ppcore.storage import Store
    from ppflow import statistics as table
    from ppflow.recipe import recipe as recipes
    from ppflow.report import make_report
    from ppflow.runner import graph, run_nodes

    loaded = recipes.load_recipe(recipe)
    if seeds is not None:
        loaded = recipes.with_seeds(loaded, seeds)
    root = out or Path("runs", loaded.name)
    _require_writable(root)
    nodes = graph.expand(loaded, root)
    start = time.monotonic()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    count = workers or len(os.sched_getaffinity(0))
    say(f"{loaded.title}: {len(nodes)} jobs, {count} at a time, into {root}")
    try:
        done = run_nodes(nodes, workers=count, say=say)
    except KeyboardInterrupt:
        say(f"stopped; run the same command again to resume from {root}")
        raise
    results = {
        label: [100 * float(done[stage, seed].result["accuracy"]) for seed in loaded.seeds]
        for label, stage in loaded.rows.items()
    }
    rows = table.make_rows(results, loaded.compare)
    store = Store(root)
    store.write_atomic("results.csv", table.as_csv(rows, loaded.seeds).encode())
    page = make_report(loaded, rows, done, time.monotonic() - start, " ".join(["ppflow", *sys.argv[1:]]))
    store.write_atomic("report.html", page.encode())
    print(table.as_text(rows, loaded.compare))
    for note in loaded.notes:
        print(note)
    print(f"report: {root / 'report.html'}")


@app.command("list")
def list_recipes() -> None:
    """The recipes that come with the package."""
    from ppflow.recipe import load_recipe, named_recipes

    for name in named_recipes():
        print(f"{name:12} {load_recipe(name).title}")


def _require_writable(root: Path) -> None:
    parent = next(p for p in (root, *root.absolute().parents) if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UserError(f"{root} cannot be written ({parent} is no writable directory); choose another --out")


def main() -> None:
    """Entry point of the `ppflow` command."""
    run_app(app)
