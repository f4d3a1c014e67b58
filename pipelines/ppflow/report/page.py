"""One self-contained HTML page of an experiment: the table, the curves, the samples, what conditioned them."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from datetime import date
from html import escape

from ppcore.console import format_duration
from ppcore.page import (
    CLASS_STYLE,
    PAIR_STYLE,
    class_strips,
    conditioned,
    dot_plot,
    line_plot,
    page,
    pairs,
    table,
)
from ppcore.shards import ShardSet
from ppcore.targets import load_target
from ppflow.recipe import Recipe
from ppflow.report.curves import legible, mean_curves
from ppflow.runner import FinishedJob, JobKey
from ppflow.statistics import Row, cells, header

_MEASURES = {
    "monitor_accuracy": "Accuracy on unused training images, %",
    "loss": "Training loss",
}
"""Column of metrics.csv -> title of its chart."""
_OF_A_CLASS, _OF_A_PAIR = 6, 9  # samples shown


def make_report(
    recipe: Recipe, rows: Sequence[Row], done: Mapping[JobKey, FinishedJob], *, seconds: float, command: str
) -> str:
    """The page as HTML text."""
    body = [
        f"<h1>{escape(recipe.title)}</h1>",
        f'<p class="lead">Made by <code>{escape(command)}</code> on {date.today().isoformat()} in {format_duration(seconds)}, '
        f"{len(recipe.seeds)} seeds, {escape(platform.machine())}, Python {platform.python_version()}.</p>",
        "<h2>Accuracy on the target's test images</h2>",
        _table(recipe, rows),
        dot_plot({row.label: row.values for row in rows}, "accuracy by row: a dot a seed, a bar at the mean"),
        *(f"<p>{escape(note)}</p>" for note in recipe.notes),
        *_curves(recipe, done),
        *_samples(recipe, done),
    ]
    return page(recipe.title, body, CLASS_STYLE + PAIR_STYLE)


def _table(recipe: Recipe, rows: Sequence[Row]) -> str:
    return (
        f"{table(header(recipe.compare), [cells(row, recipe.compare) for row in rows])}"
        '<p class="small">Mean ± standard deviation over seeds. Differences are taken seed by seed, with their 95 % interval '
        "(Student's t over the seeds); in brackets, the seeds in which the row was ahead.</p>"
    )


def _curves(recipe: Recipe, done: Mapping[JobKey, FinishedJob]) -> list[str]:
    """Mean over seeds of every measure that the training runs logged."""
    out = []
    for column, title in _MEASURES.items():
        curves = mean_curves(recipe, done, column)
        if curves:
            out.append(f"<h2>{escape(title)}</h2>")
        for chart in legible(curves, recipe.compare):
            out.append(line_plot(chart, "optimiser steps of the last stage", title.lower()))
    if any(out):
        out.append(
            '<p class="small">Mean over seeds. The unused training images are watched only: they choose nothing, and the test '
            "images are read once, at the end.</p>"
        )
    return out


def _samples(recipe: Recipe, done: Mapping[JobKey, FinishedJob]) -> list[str]:
    """What the first seed's generation stages made."""
    out = []
    shown = {stage: done[stage, seed].job for stage, seed in done if seed in (None, recipe.seeds[0])}
    for stage in (name for name in recipe.stages if name in shown):
        job = shown[stage]
        if job.kind == "synth":
            out.append(f"<h2>Pseudo pre-training samples by class ({escape(stage)})</h2>")
            out.append(class_strips(ShardSet.open(str(job.folder), kind="synth"), _OF_A_CLASS))
        elif job.kind == "pseudo":
            out.append(f"<h2>Target images and the pseudo samples they conditioned ({escape(stage)})</h2>")
            out.append(
                '<p class="small">Left: a labelled target image. Middle: the largest entries of its soft label under the source '
                "classifier. Right: samples of this set that carry its name.</p>"
            )
            target = load_target(str(job.settings["target"]))
            shards = ShardSet.open(str(job.folder), kind="pseudo")
            out.append(pairs(conditioned(shards, target, _OF_A_PAIR)))
    return out
