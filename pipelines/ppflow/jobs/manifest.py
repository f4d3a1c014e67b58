"""`run.json`: which folder holds which result of an experiment, for the commands that come after it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ppcore.errors import UserError
from ppcore.storage import Store, read_json
from ppflow.jobs.graph import Graph
from ppflow.jobs.records import read_judged
from ppflow.recipe import Recipe

RUN = "run.json"


@dataclass(frozen=True)
class Entry:
    """One result; `folder` is relative to the directory of results."""

    group: str
    row: str
    seed: int
    stage: str
    folder: str


@dataclass(frozen=True)
class Run:
    """What `run.json` holds; `digest` is of all that its table and its report show."""

    recipe: str
    title: str
    command: str
    digest: str
    entries: tuple[Entry, ...]


def make_run(recipe: Recipe, root: Path, command: str, graph: Graph) -> Run:
    entries = [
        Entry(group, row, seed, graph.jobs[digest].stage, os.path.relpath(graph.jobs[digest].folder, root))
        for (group, row), seeds in graph.rows.items()
        for seed, digest in seeds.items()
    ]
    content = json.dumps([sorted(graph.jobs), recipe.title, recipe.notes, recipe.compare, list(recipe.rows)])
    digest = hashlib.sha256(content.encode()).hexdigest()
    return Run(recipe.name, recipe.title, command, digest, tuple(entries))


def write_run(root: Path, run: Run) -> None:
    """Written last: table and report of this content are there."""
    Store(root).write_atomic(RUN, (json.dumps(asdict(run), indent=1) + "\n").encode())


def read_run(root: Path) -> Run:
    """Raises UserError where there is none."""
    try:
        return read_json(root / RUN, Run)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{root} is no directory of results ({error}); give one that ppflow run wrote"
        ) from error


def correct_images(root: Path) -> dict[tuple[str, str], dict[int, np.ndarray]]:
    """(group, row) -> seed -> bool (N,), which test images were classified correctly; nothing where the stages are gone."""
    found: dict[tuple[str, str], dict[int, np.ndarray]] = {}
    if not (root / RUN).is_file():
        return found
    for entry in read_run(root).entries:
        judged = read_judged(root / entry.folder)
        if judged is not None:
            found.setdefault((entry.group, entry.row), {})[entry.seed] = judged.correct
    return found
