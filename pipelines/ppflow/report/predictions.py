"""The predictions for the test images on the report: confusion and calibration, over all seeds of a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ppcore.page import calibration_plot, figures, matrix_plot, table
from ppcore.storage import read_json
from ppflow.jobs import Graph, Outcomes, Predictions, read_predictions
from ppflow.recipe import Recipe
from ppflow.report.measured import LINES
from ppflow.statistics import Table

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
