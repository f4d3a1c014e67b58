"""Generated images on the report: samples by class, samples by soft label, the best and the worst soft labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

import numpy as np

from ppcore.page import (
    calibration_plot,
    class_strips,
    conditioned,
    conditioned_by,
    figures,
    matrix_plot,
    pairs,
    soft_labels,
    table,
)
from ppcore.shards import ShardSet
from ppcore.storage import read_json
from ppcore.targets import Target, load_target
from ppflow.jobs import Graph, Outcomes, Predictions, StageJob, read_predictions
from ppflow.recipe import Recipe
from ppflow.report.measured import LINES
from ppflow.statistics import Table

_OF_A_CLASS, _OF_A_PAIR = 6, 9  # samples shown
_EXTREMES = 4  # best and worst soft labels shown
_CLASSES = 60  # shown at most


def samples(recipe: Recipe, graph: Graph, outcomes: Outcomes) -> Iterator[str]:
    """Samples of the generation stages of the first seed, at one point of the grid."""
    cell, seen = recipe.shown, set()
    for name in cell.stages:
        digest = next(iter(graph.cells[cell.group].get(name, {}).values()), "")
        job = graph.jobs.get(digest)
        if job is None or digest not in outcomes.done or digest in seen:
            continue
        seen.add(digest)
        if job.kind == "synth":
            yield f'<h2 id="{escape(name)}">Synthetic samples by class ({escape(name)})</h2>'
            yield class_strips(ShardSet.open(str(job.folder), kind="synth"), _OF_A_CLASS)
        elif job.kind == "pseudo":
            yield from _pseudo(name, job)


def _pseudo(name: str, job: StageJob) -> Iterator[str]:
    target, shards = load_target(str(job.settings["target"])), ShardSet.open(str(job.folder), kind="pseudo")
    yield f'<h2 id="{escape(name)}">Target images, their soft labels and samples ({escape(name)})</h2>'
    yield (
        '<p class="small">A labelled target image, the largest entries of its soft label under the source classifier, and samples '
        "generated from this soft label.</p>"
    )
    yield pairs(conditioned(shards, target, _OF_A_PAIR, _CLASSES))
    if job.settings.get("condition", "soft") == "soft":
        yield from _extremes(shards, target)


def _extremes(shards: ShardSet, target: Target) -> Iterator[str]:
    margins = margins_of(soft_labels(shards), target)
    if len(margins) < 2 * _EXTREMES:
        return
    order = sorted(margins, key=lambda name: -margins[name])
    for title, ids in (("Best", order[:_EXTREMES]), ("Worst", order[::-1][:_EXTREMES])):
        values = ", ".join(f"{margins[name]:+.2f}" for name in ids)
        yield f'<h3>{title} soft labels <span class="small">(margins {values})</span></h3>'
        yield pairs(conditioned_by(shards, target, ids, _OF_A_PAIR))
    yield (
        '<p class="small">The margin of a soft label is its cosine similarity to the mean soft label of the other images of its class '
        "minus that to the nearest other class. Above zero, the soft label is enough to tell the class.</p>"
    )


def margins_of(soft: dict[str, np.ndarray], target: Target) -> dict[str, float]:
    """Target image -> margin of its soft label: cosine similarity to the mean of the other images of its class, minus that to the mean of
    the nearest other class. Images that are alone in their class are left out.

    Args:
        soft: target image -> float (K,), soft label.
    """
    position = {name: p for p, name in enumerate(target.train.ids)}
    ids = [name for name in soft if name in position]
    labels = target.train.labels[[position[name] for name in ids]] if ids else np.zeros(0, dtype=int)
    classes, own = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        return {}
    rows = _normalised(np.stack([soft[name] for name in ids]))  # (N, K)
    sums = np.stack([rows[own == c].sum(0) for c in range(len(classes))])  # (classes, K)
    to_own = (rows * _normalised(sums[own] - rows)).sum(1)
    to_others = rows @ _normalised(sums).T  # (N, classes)
    to_others[np.arange(len(ids)), own] = -np.inf
    margins = to_own - to_others.max(1)
    shared = np.bincount(own)[own] > 1
    return {name: float(margin) for name, margin, keep in zip(ids, margins, shared, strict=True) if keep}


def _normalised(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


_BINS = 10
_MISTAKES = 6  # listed for each row


def confusion_and_calibration(
    recipe: Recipe, graph: Graph, outcomes: Outcomes, results: Table
) -> Iterator[str]:
    """Confusion of the best row and of the rows of comparison, calibration of all rows, at one point of the grid."""
    group = recipe.shown.group
    rows = {row.label: row for row in results.groups.get(group, [])}
    predictions: dict[str, list[Predictions]] = {}
    for label in rows:
        folders = [graph.jobs[d].folder for d in graph.rows[group, label].values() if d in outcomes.done]
        stored = [p for p in map(read_predictions, folders) if p is not None]
        if stored:
            predictions[label] = stored
    if not predictions:
        return
    best = max(predictions, key=lambda label: rows[label].mean)
    shown = [best, *(label for label in recipe.compare if label in predictions and label != best)]
    names = _class_names(graph, outcomes, group, best)
    matrices = {label: _confusion(predictions[label], len(names)) for label in shown}
    yield '<h2 id="confusion">Confusion</h2>'
    yield figures(
        [
            (
                matrix_plot(matrix, names, f"confusion matrix of {label}"),
                f"{label}; the stronger the colour, the more images",
            )
            for label, matrix in matrices.items()
        ]
    )
    head = ["row", *(f"mistake {n}" for n in range(1, _MISTAKES + 1))]
    yield table(head, [[label, *_mistakes(matrix, names)] for label, matrix in matrices.items()])
    bins = {label: _Bins(seeds) for label, seeds in predictions.items()}
    order = list(dict.fromkeys([*shown, *bins]))[:LINES]
    plot = calibration_plot(
        {label: bins[label].curve for label in order}, "share of right predictions over confidence"
    )
    yield '<h2 id="calibration">Calibration</h2>'
    yield figures(
        [(plot, "Above the dotted line, predictions are right more often than their confidence says.")]
    )
    errors = [[label, f"{b.error:.3f}", f"{b.confidence:.1%}"] for label, b in bins.items()]
    yield table(["row", "expected calibration error", "mean confidence"], errors)


def _class_names(graph: Graph, outcomes: Outcomes, group: str, label: str) -> list[str]:
    digest = next(d for d in graph.rows[group, label].values() if d in outcomes.done)
    spec: Mapping[str, list[str]] = read_json(graph.jobs[digest].folder / "model" / "config.json", dict)
    return list(spec["class_names"])


def _confusion(seeds: Sequence[Predictions], classes: int) -> np.ndarray:
    """int64 (K, K), rows are true classes, summed over all seeds."""
    pairs = np.concatenate([seed.labels * classes + seed.guesses for seed in seeds])
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def _mistakes(matrix: np.ndarray, names: Sequence[str]) -> list[str]:
    wrong = matrix - np.diag(matrix.diagonal())
    order = [divmod(int(p), len(names)) for p in np.argsort(-wrong, axis=None)[:_MISTAKES]]
    return [
        f"{names[t]} as {names[g]} ({wrong[t, g] / matrix[t].sum():.0%})" for t, g in order if wrong[t, g]
    ]


class _Bins:
    """Predictions of all seeds in bins of equal width of confidence; bins without images are left out.

    Attributes:
        curve: (mean confidence, share of right predictions) of each bin.
        error: expected calibration error (Guo et al. 2017).
        confidence: mean confidence.
    """

    def __init__(self, seeds: Sequence[Predictions]) -> None:
        confidence = np.concatenate([seed.confidences for seed in seeds])
        correct = np.concatenate([seed.correct for seed in seeds])
        position = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
        count = np.bincount(position, minlength=_BINS)
        full = count > 0
        mean = np.bincount(position, confidence, _BINS)[full] / count[full]
        right = np.bincount(position, correct, _BINS)[full] / count[full]
        self.curve = list(zip(mean.tolist(), right.tolist(), strict=True))
        self.error = float((count[full] * np.abs(mean - right)).sum() / count.sum())
        self.confidence = float(confidence.mean())
