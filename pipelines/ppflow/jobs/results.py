"""What finished jobs made, read from their folders, and `run.json`, which says which folder holds which result of an experiment."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ppcore.errors import UserError
from ppcore.shards import INDEX, ShardSet
from ppcore.storage import Store, open_table, read_json
from ppflow.jobs.graph import Graph, StageJob
from ppflow.recipe import MODELS, Recipe

RESULT = "result.json"
_PREDICTIONS = "predictions.parquet"
_RUN = "run.json"


@dataclass(frozen=True)
class StageResult:
    """What a finished job made.

    Attributes:
        samples: images made by a generation stage.
        steps: optimiser steps of a training stage.
        accuracy: share of the test images classified correctly; None without test images.
        images: number of test images.
        file: path of an exported classifier.
        seconds: time of one process, over all interruptions where the stage records it; None where it is not known.
    """

    samples: int | None = None
    steps: int | None = None
    accuracy: float | None = None
    images: int | None = None
    file: str | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        if self.file is not None:
            return self.file
        if self.accuracy is not None:
            return f"accuracy {100 * self.accuracy:.1f} %"
        return f"{self.steps} steps" if self.samples is None else f"{self.samples} images"


@dataclass(frozen=True)
class JobFailure:
    """Why a job has no result, in one sentence; `refused` if its settings are wrong, so that running it again cannot help."""

    reason: str
    refused: bool = False


@dataclass(frozen=True)
class Outcomes:
    """The jobs of an experiment by digest: with a result, failed, or skipped because a job that they need failed."""

    done: dict[str, StageResult] = field(default_factory=dict)
    failed: dict[str, JobFailure] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def find_done(graph: Graph) -> dict[str, StageResult]:
    """Digest -> result of the jobs that an earlier run finished."""
    results = {digest: stored_result(job) for digest, job in graph.jobs.items()}
    return {digest: result for digest, result in results.items() if result is not None}


def stored_result(job: StageJob) -> StageResult | None:
    """The result in a job's folder; None if the job is not finished."""
    path = job.folder / (INDEX if job.kind in ("synth", "pseudo") else RESULT)
    if not path.is_file():
        return None
    if path.name == INDEX:
        result = StageResult(samples=ShardSet.open(str(job.folder)).samples)
    elif job.kind in MODELS:
        content = read_json(path, dict[str, Any])  # of pptrain; pre-training has no accuracy
        images = (content.get("test") or {}).get("images")
        result = StageResult(
            steps=content["steps"], accuracy=content["accuracy"], images=images, seconds=content["seconds"]
        )
    else:
        result = read_json(path, StageResult)
    record = _record_path(job)
    return replace(result, seconds=read_json(record, dict)["seconds"]) if record.is_file() else result


def write_record(job: StageJob, seconds: float, host: str) -> None:
    """Write a JSON file beside the folder of a finished job that says what ran there and for how long."""
    record = {name: getattr(job, name) for name in ("stage", "group", "seed", "kind", "digest")}
    record |= {"seconds": round(seconds, 3), "host": host}
    path = _record_path(job)
    Store(path.parent).write_atomic(path.name, (json.dumps(record, indent=1) + "\n").encode())


def _record_path(job: StageJob) -> Path:
    return job.folder.with_name(job.folder.name + ".json")


@dataclass(frozen=True)
class Predictions:
    """Predictions of one classifier for the N test images, in their order.

    Attributes:
        labels, guesses: int64 (N,), true and predicted classes.
        confidences: float32 (N,), probability of the predicted class.
    """

    labels: np.ndarray
    guesses: np.ndarray
    confidences: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """bool (N,)."""
        return self.labels == self.guesses


def read_predictions(folder: Path) -> Predictions | None:
    """The predictions that a training run stored; None if it stored none."""
    path = folder / _PREDICTIONS
    if not path.is_file():
        return None
    with path.open("rb") as handle:
        stored = open_table(handle).read(use_threads=False)
    # Arrow's own conversion to numpy would import pandas if it is installed; lists do not.
    labels, guesses, confidences = (
        np.array(stored[name].to_pylist()) for name in ("label", "guess", "confidence")
    )
    return Predictions(labels, guesses, confidences.astype(np.float32))


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
    """Content of `run.json`; `digest` covers everything that the table and the report show."""

    recipe: str
    title: str
    command: str
    digest: str
    entries: tuple[Entry, ...]


def make_run(recipe: Recipe, root: Path, command: str, graph: Graph) -> Run:
    """The content of `run.json` for all rows of a recipe."""
    entries = [
        Entry(group, row, seed, graph.jobs[digest].stage, os.path.relpath(graph.jobs[digest].folder, root))
        for (group, row), seeds in graph.rows.items()
        for seed, digest in seeds.items()
    ]
    content = json.dumps([sorted(graph.jobs), recipe.title, recipe.notes, recipe.compare, list(recipe.rows)])
    digest = hashlib.sha256(content.encode()).hexdigest()
    return Run(recipe.name, recipe.title, command, digest, tuple(entries))


def write_run(root: Path, run: Run) -> None:
    """Write `run.json`: last, after the table and the report that its digest stands for."""
    Store(root).write_atomic(_RUN, (json.dumps(asdict(run), indent=1) + "\n").encode())


def read_run(root: Path) -> Run:
    """Read `run.json`. Raises UserError if it is missing or damaged."""
    try:
        return read_json(root / _RUN, Run)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{root} is not a directory of results ({error}); give one that ppflow run wrote"
        ) from error


def correct_images(root: Path) -> dict[tuple[str, str], dict[int, np.ndarray]]:
    """(group, row) -> seed -> bool (N,), which test images were classified correctly; empty if the stages were deleted."""
    correct: dict[tuple[str, str], dict[int, np.ndarray]] = {}
    for entry in read_run(root).entries if (root / _RUN).is_file() else ():
        predictions = read_predictions(root / entry.folder)
        if predictions is not None:
            correct.setdefault((entry.group, entry.row), {})[entry.seed] = predictions.correct
    return correct
