"""What an experiment measured: its tables, accuracy against labels, learning curves."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from ppcore.page import dot_plot, figures, line_plot, table
from ppflow.jobs import Graph, Outcomes
from ppflow.recipe import Recipe
from ppflow.report.curves import Curves, legible, mean_curves
from ppflow.statistics import Table, cells, explain, header, verdict

_MEASURES = {
    "monitor_accuracy": "accuracy on unused training images, %",
    "val_accuracy": "accuracy on validation images, %",
    "loss": "training loss",
}
"""Column of metrics.csv -> what it is."""
_STEPS = "optimiser steps of the last stage"


def tables(results: Table, headline: str) -> Iterator[str]:
    """A table and its dots for every point of the grid."""
    yield '<h2 id="accuracy">Accuracy on the target\'s test images</h2>'
    for group, rows in results.groups.items():
        if group:
            yield f"<h3>{escape(group)}</h3>"
        lines = [cells(row, results.compare, results.seeds) for row in rows]
        yield table(header(results.compare), lines)
        dots = dot_plot(
            {row.label: list(row.values.values()) for row in rows}, f"accuracy by row {group}".strip()
        )
        yield figures([(dots, "A dot a seed, a bar at the mean.")])
    yield f'<p class="small">{escape(explain(results))}</p>'
    yield from (f"<p><strong>{escape(sentence)}</strong></p>" for sentence in verdict(results, headline))
    yield from _over_images(results)


def _over_images(results: Table) -> Iterator[str]:
    """Differences with the interval that says what the choice of test images is worth."""
    lines = [
        [
            f"{group + ': ' if group else ''}{row.label}",
            f"minus {other}",
            f"{delta.mean:+.1f}",
            f"{low:+.1f} to {high:+.1f}",
        ]
        for group, rows in results.groups.items()
        for row in rows
        for other, delta in row.differences.items()
        if delta.images is not None
        for low, high in [delta.images]
    ]
    if lines:
        yield "<details><summary>The same differences, with their 95 % interval over test images (bootstrap)</summary>"
        yield table(["row", "against", "points", "interval"], lines)
        yield (
            '<p class="small">Student\'s interval above tells how much another seed would change (labelled images, weights, samples); this '
            "one, how much other test images would.</p></details>"
        )


def against_labels(recipe: Recipe, graph: Graph, results: Table) -> Iterator[str]:
    """Mean accuracy over labels a class, where the grid has several numbers of them: a plot for every rest of the grid."""
    lines: dict[str, Curves] = {}
    for cell in recipe.cells:
        for row in results.groups.get(cell.group, []):
            job = graph.jobs[next(iter(graph.rows[cell.group, row.label].values()))]
            labels = job.settings.get("data.labels_per_class")
            if labels:
                rest = ", ".join(f"{k} {v}" for k, v in cell.values.items() if v != str(labels))
                lines.setdefault(rest, {}).setdefault(row.label, []).append((float(labels), row.mean))
    plots = [
        (
            line_plot({k: sorted(v) for k, v in chart.items()}, "labels a class", "accuracy, %", marks=True),
            rest,
        )
        for rest, curves in lines.items()
        if max(len({x for x, _ in points}) for points in curves.values()) > 1
        for chart in legible(curves, results.compare)
    ]
    if plots:
        yield '<h2 id="labels">Accuracy against labels a class</h2>'
        yield figures(plots)


def curves(recipe: Recipe, graph: Graph, outcomes: Outcomes) -> Iterator[str]:
    """Mean over seeds of every measure that the training runs logged, at one point of the grid."""
    group = recipe.shown.group
    runs: dict[str, list[Path]] = {
        label: [graph.jobs[digest].folder for digest in seeds.values() if digest in outcomes.done]
        for (place, label), seeds in graph.rows.items()
        if place == group
    }
    plots = [
        (line_plot(chart, _STEPS, "loss" if column == "loss" else "accuracy, %"), title.capitalize())
        for column, title in _MEASURES.items()
        if (found := mean_curves(runs, column))
        for chart in legible(found, recipe.compare)
    ]
    if not plots:
        return
    yield '<h2 id="curves">Learning curves</h2>'
    yield figures(plots)
    place = f" at {escape(group)}" if group else ""
    yield (
        f'<p class="small">Mean over seeds{place}. The unused training images are watched only: they choose nothing, and the test '
        "images are read once, at the end.</p>"
    )
