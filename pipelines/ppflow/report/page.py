"""One self-contained HTML page of an experiment: the table, the curves, the samples, what conditioned them."""

from __future__ import annotations

import platform
from collections.abc import Iterator
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
from ppflow.jobs import Graph, Outcomes
from ppflow.recipe import Recipe
from ppflow.report.curves import legible, mean_curves
from ppflow.statistics import Table, cells, explain, header

_MEASURES = {
    "monitor_accuracy": "Accuracy on unused training images, %",
    "loss": "Training loss",
}
"""Column of metrics.csv -> title of its chart."""
_OF_A_CLASS, _OF_A_PAIR = 6, 9  # samples shown


def make_report(
    recipe: Recipe, graph: Graph, table: Table, outcomes: Outcomes, *, seconds: float, command: str
) -> str:
    """The page as HTML text; of an experiment that is incomplete, what there is."""
    body = [
        f"<h1>{escape(recipe.title)}</h1>",
        f'<p class="lead">Made by <code>{escape(command)}</code> on {date.today().isoformat()} in {format_duration(seconds)}, '
        f"{len(table.seeds)} seeds, {escape(platform.machine())}, Python {platform.python_version()}.</p>",
        "<h2>Accuracy on the target's test images</h2>",
        *_tables(table),
        *(f"<p>{escape(note)}</p>" for note in recipe.notes),
        *_curves(recipe, graph, outcomes),
        *_samples(recipe, graph, outcomes),
    ]
    return page(recipe.title, body, CLASS_STYLE + PAIR_STYLE)


def _tables(results: Table) -> Iterator[str]:
    for group, rows in results.groups.items():
        if group:
            yield f"<h3>{escape(group)}</h3>"
        yield table(header(results.compare), [cells(row, results.compare, results.seeds) for row in rows])
        yield dot_plot(
            {row.label: list(row.values.values()) for row in rows},
            "accuracy by row: a dot a seed, a bar at the mean",
        )
    yield f'<p class="small">{escape(explain(results))}</p>'


def _curves(recipe: Recipe, graph: Graph, outcomes: Outcomes) -> list[str]:
    """Mean over seeds of every measure that the training runs logged, at the first point of the grid."""
    out = []
    group = recipe.cells[0].group
    runs = {
        label: [graph.jobs[digest].folder for digest in seeds.values() if digest in outcomes.done]
        for (place, label), seeds in graph.rows.items()
        if place == group
    }
    for column, title in _MEASURES.items():
        curves = mean_curves(runs, column)
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


def _samples(recipe: Recipe, graph: Graph, outcomes: Outcomes) -> Iterator[str]:
    """What the first seed's generation stages made, at the first point of the grid."""
    cell = recipe.cells[0]
    for name in cell.stages:
        digest = next(iter(graph.cells[cell.group].get(name, {}).values()), "")
        if digest not in outcomes.done:
            continue
        job = graph.jobs[digest]
        if job.kind == "synth":
            yield f"<h2>Pseudo pre-training samples by class ({escape(name)})</h2>"
            yield class_strips(ShardSet.open(str(job.folder), kind="synth"), _OF_A_CLASS)
        elif job.kind == "pseudo":
            yield f"<h2>Target images and the pseudo samples they conditioned ({escape(name)})</h2>"
            yield (
                '<p class="small">Left: a labelled target image. Middle: the largest entries of its soft label under the source '
                "classifier. Right: samples of this set that carry its name.</p>"
            )
            target = load_target(str(job.settings["target"]))
            shards = ShardSet.open(str(job.folder), kind="pseudo")
            yield pairs(conditioned(shards, target, _OF_A_PAIR))
