"""`ppflow run`: runs the jobs of a recipe, writes results.csv, run.json and report.html, and prints the table."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.table import Table as RichTable

from ppcore.console import EXIT_FAILED, EXIT_USER_ERROR, printable_name
from ppcore.errors import UserError
from ppcore.storage import HeldError, Store, hold
from ppflow.jobs import Graph, Outcomes, correct_images, expand, find_done, make_run, read_run, write_run
from ppflow.recipe import Recipe, load_recipe
from ppflow.statistics import (
    FORMATS,
    Result,
    Results,
    Row,
    Table,
    as_text,
    headline_sentences,
    make_table,
    read_results,
    results_csv,
)


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


def _table(graph: Graph, outcomes: Outcomes) -> RichTable:
    table = RichTable("so far, accuracy %", box=None, pad_edge=False)
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


if TYPE_CHECKING:
    from ppflow.runner import Executor

_LOCK = ".lock"


@dataclass(frozen=True)
class RunOptions:
    """The options of `ppflow run`.

    Attributes:
        out: directory of results; None is runs/<recipe>.
        jobs: jobs at the same time; None is one for each CPU core, and on Ray as many as have room.
        seeds: run with seeds 0 to `seeds` - 1; None takes the recipe's seeds.
        rows: patterns of the rows to run; empty runs all.
        parameters: of `--param`, see :func:`ppflow.recipe.load_recipe`.
        address: of a running Ray cluster; None starts one on this machine.
    """

    out: Path | None = None
    jobs: int | None = None
    seeds: int | None = None
    rows: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    scale: str | None = None
    engine: str = "local"
    address: str | None = None


def open_recipe(name: str, options: RunOptions) -> tuple[Recipe, Path]:
    """The recipe with the choices of the command line, and its directory of results. What was chosen for the user is printed."""
    recipe = load_recipe(name, options.parameters, options.scale)
    directory = recipe.name
    if None in recipe.parameters.values():
        from ppflow.cli.fitting import fit  # imports torch

        fitting, chosen, notes = fit(name, recipe.parameters)
        recipe = load_recipe(fitting, {**options.parameters, **chosen}, options.scale)
        for note in notes:
            _log(note)
    if options.seeds is not None:
        recipe = recipe.with_seeds(options.seeds)
    if options.rows:
        recipe = recipe.with_rows(options.rows)
    scale = f"-{options.scale}" if options.scale else ""
    return recipe, options.out or Path("runs", directory + scale)


def run_experiment(name: str, options: RunOptions) -> int:
    """Run a recipe and print its table.

    Returns:
        Exit status: 0, 1 if a job failed, 2 if jobs failed only because their settings are wrong.

    Raises:
        UserError: the recipe, the directory or the settings of a job are wrong.
    """
    recipe, root = open_recipe(name, options)
    graph = expand(recipe, root)
    start = time.monotonic()
    outcomes = Outcomes(find_done(graph))
    count = f"{recipe.title}: {len(graph.jobs)} jobs, {len(outcomes.done)} of them done"
    if len(outcomes.done) == len(graph.jobs) and _is_reported(recipe, graph, root):
        _log(f"{count}; nothing is left to do")
        table = make_table(_results(recipe, graph, outcomes), correct_images(root))
        _print_results(recipe, graph, outcomes, table, root)
        return 0
    _require_writable(root)
    with _locked(root):
        _log(f"{count}, into {root}")
        if len(outcomes.done) < len(graph.jobs):
            outcomes = _run(graph, outcomes, options, root)
        return _report(recipe, graph, outcomes, root, time.monotonic() - start)


def _is_reported(recipe: Recipe, graph: Graph, root: Path) -> bool:
    """Whether the directory holds the table and the report of exactly these results."""
    if not all((root / name).is_file() for name in ("run.json", "report.html", "results.csv")):
        return False
    try:
        return read_run(root).digest == make_run(recipe, root, "", graph).digest
    except UserError:  # damaged, or written by another version
        return False


def _run(graph: Graph, outcomes: Outcomes, options: RunOptions, root: Path) -> Outcomes:
    # Imported here because a run that is done needs neither rich nor torch.
    from ppflow.cli.experiment import live_table
    from ppflow.runner import check_job, run_jobs

    for job in graph.jobs.values():
        check_job(job)
    try:
        with _executor(options) as executor, live_table(graph) as show:
            return run_jobs(graph, outcomes.done, executor, show)
    except KeyboardInterrupt:
        _log(f"stopped; run the same command again to resume from {root}")
        raise


def _report(recipe: Recipe, graph: Graph, outcomes: Outcomes, root: Path, seconds: float) -> int:
    """Write table and report of the finished jobs, print the table, name the failed jobs. Returns the exit status."""
    command = " ".join(["ppflow", *sys.argv[1:]])
    results = _results(recipe, graph, outcomes)
    store = Store(root)
    if results.entries:
        from ppflow.report import make_report  # imports torch and matplotlib

        run = make_run(recipe, root, command, graph)
        write_run(root, replace(run, digest=""))  # the digest is added when everything is written
        store.write_atomic("results.csv", results_csv(results).encode())
        table = make_table(results, correct_images(root))
        page = make_report(recipe, graph, table, outcomes, seconds=seconds, command=command)
        store.write_atomic("report.html", printable_name(page).encode())
        write_run(root, run)
        _print_results(recipe, graph, outcomes, table, root)
    if not outcomes.failed:
        return 0
    for digest, failure in outcomes.failed.items():
        job = graph.jobs[digest]
        _log(f"error: {job.label}: {failure.reason} (see {job.folder}.log)")
    rows = [
        label for (_, label), seeds in graph.rows.items() if not set(seeds.values()) <= set(outcomes.done)
    ]
    _log(
        f"{len(outcomes.failed)} jobs failed and {len(outcomes.skipped)} jobs that need them were skipped; incomplete rows: "
        f"{', '.join(dict.fromkeys(rows)) or 'none'}; run the same command again to retry"
    )
    refused = all(failure.refused for failure in outcomes.failed.values())
    return EXIT_USER_ERROR if refused else EXIT_FAILED


def _print_results(recipe: Recipe, graph: Graph, outcomes: Outcomes, table: Table, root: Path) -> None:
    print(as_text(table))
    for sentence in [*headline_sentences(table, recipe.headline), *recipe.notes]:
        print(sentence)
    for digest in graph.exports.values():
        if digest in outcomes.done:
            result = outcomes.done[digest]
            measured = ""
            if result.accuracy is not None:
                measured = f", {100 * result.accuracy:.1f} % on {result.images} test images in onnxruntime"
            print(f"exported: {result.file}{measured}")
    print(f"report: {root / 'report.html'}")
    _log(f"next: ppflow table {root} --format latex, or ppflow compare {root} ANOTHER_RUN")


def _results(recipe: Recipe, graph: Graph, outcomes: Outcomes) -> Results:
    """Accuracies in percent of the finished jobs of the rows, compared with those rows of `compare` that have a result."""
    entries = []
    for (group, label), seeds in graph.rows.items():
        for seed, digest in seeds.items():
            if digest not in outcomes.done:
                continue
            result = outcomes.done[digest]
            if result.accuracy is None:
                raise UserError(
                    f"row {label!r} has no accuracy because its stage {graph.jobs[digest].stage} has no test images; give the stage "
                    "a data.target or remove the row"
                )
            entries.append(Result(group, label, seed, 100 * result.accuracy, result.images))
    labels = {entry.row for entry in entries}
    return Results(tuple(entries), tuple(label for label in recipe.compare if label in labels))


@contextmanager
def _executor(options: RunOptions) -> Iterator[Executor]:
    # Imported here because torch and Ray take seconds to import.
    from ppflow.runner import LocalExecutor, RayExecutor

    if options.engine == "ray":
        from ppgen.engines import ray_cluster

        with ray_cluster(options.address):
            yield RayExecutor(options.jobs)
        return
    import torch

    yield LocalExecutor(options.jobs or len(os.sched_getaffinity(0)), torch.cuda.device_count())


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Only one run at a time writes to a directory of results."""
    root.mkdir(parents=True, exist_ok=True)
    (root / _LOCK).touch()
    try:
        with hold(root / _LOCK):
            yield
    except HeldError as error:
        raise UserError(
            f"another ppflow run writes to {root}; wait until it ends, or choose another --out"
        ) from error


def _require_writable(root: Path) -> None:
    parent = next(p for p in (root, *root.absolute().parents) if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UserError(
            f"cannot write to {root} because {parent} is not a writable directory; choose another --out"
        )


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


_RESULTS = "results.csv"


def print_table(run: str, form: str, compare: Sequence[str]) -> None:
    """Print the table of a directory of results or of a CSV file.

    Args:
        compare: rows that the others are compared with; empty for those that the results name.

    Raises:
        UserError: the results cannot be read, or the format or a row of comparison does not exist.
    """
    _require_form(form)
    results, correct = _read(Path(run))
    print(FORMATS[form](make_table(results, correct, compare or None)))


def print_comparison(first: str, second: str, form: str) -> None:
    """Print the rows that both runs have, the second run minus the first, paired seed by seed.

    Raises:
        UserError: results cannot be read, the format does not exist, or the runs have no row in common.
    """
    _require_form(form)
    a, b = _read(Path(first)), _read(Path(second))
    names = [_short(first), _short(second)]
    if names[0] == names[1]:
        names = [first, second]
    # In the new table every old row is a group, and every run is a row of it.
    entries, correct = [], {}
    for name, (results, images) in zip(names, (a, b), strict=True):
        for e in results.entries:
            group = f"{e.group}, {e.row}" if e.group else e.row
            entries.append(Result(group, name, e.seed, e.accuracy, e.images))
            correct[group, name] = images.get((e.group, e.row), {})
    in_a, in_b = ({e.group for e in entries if e.row == name} for name in names)
    shared = tuple(e for e in entries if e.group in in_a & in_b)
    if not shared:
        raise UserError(
            f"{first} and {second} have no row in common; give runs of recipes whose rows have the same labels"
        )
    print(FORMATS[form](make_table(Results(shared, (names[0],)), correct)))


def _read(path: Path) -> tuple[Results, Mapping[tuple[str, str], Mapping[int, np.ndarray]]]:
    if path.is_dir():
        return read_results(path / _RESULTS), correct_images(path)
    return read_results(path), {}


def _short(run: str) -> str:
    path = Path(run)
    return path.parent.name if path.name == _RESULTS else path.stem


def _require_form(form: str) -> None:
    if form not in FORMATS:
        raise UserError(f"--format is {form!r}; expected one of {', '.join(FORMATS)}")
