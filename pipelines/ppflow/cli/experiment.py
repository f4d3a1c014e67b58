"""An experiment from its recipe to its table: jobs run, results.csv and report.html written."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from ppcore.errors import UserError
from ppcore.storage import Store
from ppflow.recipe import Recipe, load_recipe
from ppflow.report import make_report
from ppflow.runner import FinishedJob, JobKey, expand, run_jobs
from ppflow.statistics import as_csv, as_text, make_rows


def run_experiment(name: str, out: Path | None, *, workers: int | None, seeds: int | None) -> None:
    """Run a recipe and print its table.

    Args:
        name: of a recipe, or its YAML file.
        out: directory of results; None is runs/<recipe>.
        workers: jobs at a time; None is one a core.
        seeds: run with seeds 0 to `seeds` - 1; None is the recipe's own.

    Raises:
        UserError: the recipe, the directory or a job's request makes no sense.
        RuntimeError: a job failed.
    """
    recipe = load_recipe(name)
    if seeds is not None:
        recipe = recipe.with_seeds(seeds)
    root = out or Path("runs", recipe.name)
    _require_writable(root)
    jobs = expand(recipe, root)
    count = workers or len(os.sched_getaffinity(0))
    start = time.monotonic()
    _log(f"{recipe.title}: {len(jobs)} jobs, {count} at a time, into {root}")
    try:
        done = run_jobs(jobs, workers=count, log=_log)
    except KeyboardInterrupt:
        _log(f"stopped; run the same command again to resume from {root}")
        raise
    rows = make_rows(_accuracies(recipe, done), recipe.compare)
    command = " ".join(["ppflow", *sys.argv[1:]])
    store = Store(root)
    store.write_atomic("results.csv", as_csv(rows, recipe.seeds).encode())
    page = make_report(recipe, rows, done, seconds=time.monotonic() - start, command=command)
    store.write_atomic("report.html", page.encode())
    print(as_text(rows, recipe.compare))
    for note in recipe.notes:
        print(note)
    print(f"report: {root / 'report.html'}")


def _accuracies(recipe: Recipe, done: Mapping[JobKey, FinishedJob]) -> dict[str, list[float]]:
    """Row of the table -> accuracy in percent, one a seed."""
    found: dict[str, list[float]] = {label: [] for label in recipe.rows}
    for label, stage in recipe.rows.items():
        for seed in recipe.seeds:
            accuracy = done[stage, seed].result.accuracy
            if accuracy is None:
                raise UserError(
                    f"row {label!r} has no accuracy: its stage {stage} has no test images; give it a data.target or drop the row"
                )
            found[label].append(100 * accuracy)
    return found


def _require_writable(root: Path) -> None:
    parent = next(p for p in (root, *root.absolute().parents) if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UserError(f"{root} cannot be written ({parent} is no writable directory); choose another --out")


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
