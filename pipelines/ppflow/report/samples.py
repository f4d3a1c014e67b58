"""Generated images on the report: samples by class, samples by soft label, the best and the worst soft labels."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import numpy as np

from ppcore.page import class_strips, conditioned, conditioned_by, pairs, soft_labels
from ppcore.shards import ShardSet
from ppcore.targets import Target, load_target
from ppflow.jobs import Graph, Outcomes, StageJob
from ppflow.recipe import Recipe

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
