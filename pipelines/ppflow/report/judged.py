"""What the classifiers said of the test images: confusion and calibration, over all seeds of a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ppcore.page import calibration_plot, figures, matrix_plot, table
from ppcore.storage import read_json
from ppflow.jobs import Graph, Judged, Outcomes, read_judged
from ppflow.recipe import Recipe
from ppflow.report.curves import LINES
from ppflow.statistics import Table

_BINS = 10
_MISTAKES = 6  # listed


def judged(recipe: Recipe, graph: Graph, outcomes: Outcomes, results: Table) -> Iterator[str]:
    """Confusion of the best row and of the rows of comparison, calibration of all, at one point of the grid."""
    group = recipe.shown.group
    rows = {row.label: row for row in results.groups.get(group, [])}
    found = {label: _of_row(graph, outcomes, group, label) for label in rows}
    found = {label: seeds for label, seeds in found.items() if seeds}
    if not found:
        return
    best = max(found, key=lambda label: rows[label].mean)
    shown = [best, *(label for label in recipe.compare if label in found and label != best)]
    names = _class_names(graph, outcomes, group, best)
    matrices = {label: _confusion(found[label], len(names)) for label in shown}
    yield '<h2 id="confusion">Confusion</h2>'
    yield figures(
        [
            (
                matrix_plot(matrix, names, f"confusion matrix of {label}"),
                f"{label}; the stronger the colour, the more",
            )
            for label, matrix in matrices.items()
        ]
    )
    head = ["row", *(f"mistake {n}" for n in range(1, _MISTAKES + 1))]
    yield table(head, [[label, *_mistakes(matrix, names)] for label, matrix in matrices.items()])
    yield '<h2 id="calibration">Calibration</h2>'
    curves = {label: _calibration(seeds) for label, seeds in found.items()}
    kept = dict(list({**{k: curves[k] for k in shown}, **curves}.items())[:LINES])
    yield figures(
        [
            (
                calibration_plot(kept, "share that is right over confidence"),
                "Above the dotted line: less sure than right.",
            )
        ]
    )
    errors = [[label, f"{_error(seeds):.3f}", f"{_confidence(seeds):.1%}"] for label, seeds in found.items()]
    yield table(["row", "expected calibration error", "mean confidence"], errors)


def _of_row(graph: Graph, outcomes: Outcomes, group: str, label: str) -> list[Judged]:
    digests = graph.rows[group, label].values()
    read = [read_judged(graph.jobs[digest].folder) for digest in digests if digest in outcomes.done]
    return [found for found in read if found is not None]


def _class_names(graph: Graph, outcomes: Outcomes, group: str, label: str) -> list[str]:
    digest = next(d for d in graph.rows[group, label].values() if d in outcomes.done)
    spec: Mapping[str, list[str]] = read_json(graph.jobs[digest].folder / "model" / "config.json", dict)
    return list(spec["class_names"])


def _confusion(seeds: Sequence[Judged], classes: int) -> np.ndarray:
    """int64 (K, K) over all seeds."""
    flat = np.concatenate([found.labels * classes + found.guesses for found in seeds])
    return np.bincount(flat, minlength=classes**2).reshape(classes, classes)


def _mistakes(matrix: np.ndarray, names: Sequence[str]) -> list[str]:
    wrong = matrix - np.diag(matrix.diagonal())
    order = [divmod(int(p), len(names)) for p in np.argsort(-wrong, axis=None)[:_MISTAKES]]
    return [
        f"{names[t]} as {names[g]} ({wrong[t, g] / matrix[t].sum():.0%})" for t, g in order if wrong[t, g]
    ]


def _binned(seeds: Sequence[Judged]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(images, mean confidence, share that is right) of every bin that has images."""
    confidence = np.concatenate([found.confidences for found in seeds])
    correct = np.concatenate([found.correct for found in seeds])
    which = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    count = np.bincount(which, minlength=_BINS)
    full = count > 0
    mean = np.bincount(which, confidence, _BINS)[full] / count[full]
    return count[full], mean, np.bincount(which, correct, _BINS)[full] / count[full]


def _calibration(seeds: Sequence[Judged]) -> list[tuple[float, float]]:
    _, confidence, right = _binned(seeds)
    return list(zip(confidence.tolist(), right.tolist(), strict=True))


def _error(seeds: Sequence[Judged]) -> float:
    """Expected calibration error (Guo et al. 2017)."""
    count, confidence, right = _binned(seeds)
    return float((count * np.abs(confidence - right)).sum() / count.sum())


def _confidence(seeds: Sequence[Judged]) -> float:
    return float(np.mean([found.confidences.mean() for found in seeds]))
