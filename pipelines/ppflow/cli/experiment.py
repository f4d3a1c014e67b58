"""An experiment from its recipe to its table: jobs run, results.csv, run.json and report.html written."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppcore.console import EXIT_FAILED, EXIT_USER_ERROR
from ppcore.errors import UserError
from ppcore.storage import HeldError, Store, hold
from ppflow.jobs import (
    Graph,
    Outcomes,
    StageResult,
    correct_images,
    expand,
    find_done,
    make_run,
    read_run,
    write_run,
)
from ppflow.recipe import Choices, Recipe, load_recipe
from ppflow.statistics import Result, Results, Table, as_text, make_table, results_csv, verdict

if TYPE_CHECKING:
    from ppflow.runner import Engine

_LOCK = ".lock"


@dataclass(frozen=True)
class RunOptions:
    """What the command line says of a run.

    Attributes:
        out: directory of results; None is runs/<recipe>.
        jobs: at a time; None is one a core, on Ray what has room.
        seeds: run with seeds 0 to `seeds` - 1; None is the recipe's own.
        rows: only these (patterns); empty is all.
        address: of a Ray cluster; None starts one here.
    """

    out: Path | None = None
    jobs: int | None = None
    seeds: int | None = None
    rows: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    scale: str | None = None
    engine: str = "local"
    address: str | None = None


def open_recipe(name: str, options: RunOptions) -> tuple[Recipe, Path]:
    """The recipe as the command line wants it, and where its results go."""
    recipe = load_recipe(name, Choices(options.settings, options.scale))
    if options.seeds is not None:
        recipe = recipe.with_seeds(options.seeds)
    if options.rows:
        recipe = recipe.with_rows(options.rows)
    scale = f"-{options.scale}" if options.scale else ""
    return recipe, options.out or Path("runs", recipe.name + scale)


def run_experiment(name: str, options: RunOptions) -> int:
    """Run a recipe and print its table. Returns the exit status: 0, 1 where a job failed, 2 where its request was refused.

    Raises:
        UserError: the recipe, the directory or a job's request makes no sense.
    """
    recipe, root = open_recipe(name, options)
    graph = expand(recipe, root)
    start = time.monotonic()
    outcomes = Outcomes(find_done(graph))
    counted = f"{recipe.title}: {len(graph.jobs)} jobs, {len(outcomes.done)} of them done"
    if len(outcomes.done) == len(graph.jobs) and _is_concluded(recipe, graph, root):
        _log(f"{counted}; nothing is left to do")
        table = make_table(_results(recipe, graph, outcomes), correct_images(root))
        _show(recipe, graph, outcomes, table, root)
        return 0
    _require_writable(root)
    with _held(root):
        _log(f"{counted}, into {root}")
        if len(outcomes.done) < len(graph.jobs):
            outcomes = _run(graph, outcomes, options, root)
        return _conclude(recipe, graph, outcomes, root, time.monotonic() - start)


def _is_concluded(recipe: Recipe, graph: Graph, root: Path) -> bool:
    """Whether table and report of exactly these results are there."""
    if not all((root / name).is_file() for name in ("run.json", "report.html", "results.csv")):
        return False
    try:
        return read_run(root).digest == make_run(recipe, root, "", graph).digest
    except UserError:  # damaged, or of another version
        return False


def _run(graph: Graph, outcomes: Outcomes, options: RunOptions, root: Path) -> Outcomes:
    from ppflow.cli.live import LiveTable  # loads rich, which a run that is done does without
    from ppflow.runner import check_job, run_jobs  # loads torch, likewise

    for job in graph.jobs.values():
        check_job(job)
    try:
        with _engine(options) as engine, LiveTable(graph) as live:
            return run_jobs(graph, outcomes.done, engine, live.show)
    except KeyboardInterrupt:
        _log(f"stopped; run the same command again to resume from {root}")
        raise


def _conclude(recipe: Recipe, graph: Graph, outcomes: Outcomes, root: Path, seconds: float) -> int:
    """Write what there is to show, print it, and name what is missing."""
    command = " ".join(["ppflow", *sys.argv[1:]])
    results = _results(recipe, graph, outcomes)
    store = Store(root)
    if results.entries:
        from ppflow.report import make_report  # loads torch and matplotlib, likewise

        run = make_run(recipe, root, command, graph)
        write_run(root, replace(run, digest=""))  # until all is written
        store.write_atomic("results.csv", results_csv(results).encode())
        table = make_table(results, correct_images(root))
        page = make_report(recipe, graph, table, outcomes, seconds=seconds, command=command)
        store.write_atomic("report.html", page.encode())
        write_run(root, run)
        _show(recipe, graph, outcomes, table, root)
    for failed in outcomes.failed.values():
        _log(f"error: {failed.job.label}: {failed.reason} (see {failed.job.folder}.log)")
    if outcomes.failed:
        rows = [
            label for (_, label), seeds in graph.rows.items() if not set(seeds.values()) <= set(outcomes.done)
        ]
        _log(
            f"{len(outcomes.failed)} jobs failed and {len(outcomes.skipped)} that need them were left out; incomplete rows: "
            f"{', '.join(dict.fromkeys(rows)) or 'none'}; the same command tries them again"
        )
    if not outcomes.failed:
        return 0
    return EXIT_USER_ERROR if all(failed.refused for failed in outcomes.failed.values()) else EXIT_FAILED


def _show(recipe: Recipe, graph: Graph, outcomes: Outcomes, table: Table, root: Path) -> None:
    print(as_text(table))
    for sentence in verdict(table, recipe.headline):
        print(sentence)
    for note in recipe.notes:
        print(note)
    for digest in graph.exports.values():
        if digest in outcomes.done:
            print(_exported_text(outcomes.done[digest].result))
    print(f"report: {root / 'report.html'}")
    _log(f"next: ppflow table {root} --format latex, or ppflow compare {root} ANOTHER_RUN")


def _exported_text(result: StageResult) -> str:
    measured = ""
    if result.accuracy is not None:
        measured = f", {100 * result.accuracy:.1f} % on {result.images} test images in onnxruntime"
    return f"exported: {result.file}{measured}"


def _results(recipe: Recipe, graph: Graph, outcomes: Outcomes) -> Results:
    """Accuracies in percent of the rows' jobs that are done; without the rows of comparison that have none."""
    entries = []
    for (group, label), seeds in graph.rows.items():
        for seed, digest in seeds.items():
            if digest not in outcomes.done:
                continue
            result = outcomes.done[digest].result
            if result.accuracy is None:
                raise UserError(
                    f"row {label!r} has no accuracy: its stage {graph.jobs[digest].stage} has no test images; give it a data.target "
                    "or drop the row"
                )
            entries.append(Result(group, label, seed, 100 * result.accuracy, result.images))
    shown = {entry.row for entry in entries}
    return Results(tuple(entries), tuple(label for label in recipe.compare if label in shown))


@contextmanager
def _engine(options: RunOptions) -> Iterator[Engine]:
    if options.engine == "ray":
        from ppflow.runner import RayEngine  # loads torch, likewise
        from ppgen.engines import ray_cluster  # loads torch, likewise

        with ray_cluster(options.address):
            yield RayEngine(options.jobs)
        return
    import torch  # heavy: how many GPUs there are

    from ppflow.runner import LocalEngine  # loads torch, likewise

    yield LocalEngine(options.jobs or len(os.sched_getaffinity(0)), torch.cuda.device_count())


@contextmanager
def _held(root: Path) -> Iterator[None]:
    """One run at a time writes to a directory of results."""
    root.mkdir(parents=True, exist_ok=True)
    (root / _LOCK).touch()
    try:
        with hold(root / _LOCK):
            yield
    except HeldError as error:
        raise UserError(
            f"another ppflow run is at work in {root}; wait for it, or choose another --out"
        ) from error


def _require_writable(root: Path) -> None:
    parent = next(p for p in (root, *root.absolute().parents) if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UserError(f"{root} cannot be written ({parent} is no writable directory); choose another --out")


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
