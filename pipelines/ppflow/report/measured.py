"""The measurements of an experiment on its report: tables, accuracy against labels, learning curves."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from ppcore.page import dot_plot, figures, line_plot, table
from ppflow.jobs import Graph, Outcomes
from ppflow.recipe import Recipe
from ppflow.statistics import Table, cells, explain, header, headline_sentences

_COLUMNS = {
    "monitor_accuracy": "accuracy on unused training images, %",
    "val_accuracy": "accuracy on validation images, %",
    "loss": "training loss",
}
"""Column of metrics.csv -> title of its chart."""
_STEPS = "optimiser steps of the last stage"
LINES = 8  # on one chart

Curves = dict[str, list[tuple[float, float]]]
"""Row of the table -> (step, value) points."""


def tables(results: Table, headline: str) -> Iterator[str]:
    """A table and a plot of dots for every point of the grid."""
    yield '<h2 id="accuracy">Accuracy on the target\'s test images</h2>'
    for group, rows in results.groups.items():
        if group:
            yield f"<h3>{escape(group)}</h3>"
        yield table(header(results.compare), [cells(row, results.compare, results.seeds) for row in rows])
        dots = {row.label: list(row.values.values()) for row in rows}
        yield figures(
            [
                (
                    dot_plot(dots, f"accuracy by row {group}".strip()),
                    "One dot for each seed, a bar at the mean.",
                )
            ]
        )
    yield f'<p class="small">{escape(explain(results))}</p>'
    for sentence in headline_sentences(results, headline):
        yield f"<p><strong>{escape(sentence)}</strong></p>"
    yield from _image_intervals(results)


def _image_intervals(results: Table) -> Iterator[str]:
    """The differences with their interval over test images, folded away."""
    lines = [
        [
            f"{group + ': ' if group else ''}{row.label}",
            f"minus {other}",
            f"{delta.mean:+.1f}",
            f"{delta.images[0]:+.1f} to {delta.images[1]:+.1f}",
        ]
        for group, rows in results.groups.items()
        for row in rows
        for other, delta in row.differences.items()
        if delta.images is not None
    ]
    if lines:
        yield "<details><summary>The same differences, with their 95 % interval over test images (bootstrap)</summary>"
        yield table(["row", "against", "points", "interval"], lines)
        yield (
            '<p class="small">Student\'s interval in the table above shows how much the result changes with another seed (labelled images, '
            "weights, samples). This interval shows how much it changes with other test images.</p></details>"
        )


def against_labels(recipe: Recipe, graph: Graph, results: Table) -> Iterator[str]:
    """Mean accuracy against labels a class, if the grid has several numbers of them; one plot for each point of the other axes."""
    lines: dict[str, Curves] = {}
    for cell in recipe.cells:
        for row in results.groups.get(cell.group, []):
            job = graph.jobs[next(iter(graph.rows[cell.group, row.label].values()))]
            labels = job.settings.get("data.labels_per_class")
            if labels:
                others = ", ".join(f"{k} {v}" for k, v in cell.values.items() if v != str(labels))
                lines.setdefault(others, {}).setdefault(row.label, []).append((float(labels), row.mean))
    plots = [
        (
            line_plot({k: sorted(v) for k, v in chart.items()}, "labels a class", "accuracy, %", marks=True),
            others,
        )
        for others, rows in lines.items()
        if max(len({x for x, _ in points}) for points in rows.values()) > 1
        for chart in charts(rows, results.compare)
    ]
    if plots:
        yield '<h2 id="labels">Accuracy against labels a class</h2>'
        yield figures(plots)


def curves(recipe: Recipe, graph: Graph, outcomes: Outcomes) -> Iterator[str]:
    """Every measure that the training runs logged, as means over seeds, at one point of the grid."""
    group = recipe.shown.group
    runs: dict[str, list[Path]] = {
        label: [graph.jobs[digest].folder for digest in seeds.values() if digest in outcomes.done]
        for (other, label), seeds in graph.rows.items()
        if other == group
    }
    plots = []
    for column, title in _COLUMNS.items():
        means = {label: _mean_curve(folders, column) for label, folders in runs.items()}
        means = {label: points for label, points in means.items() if points}
        unit = "loss" if column == "loss" else "accuracy, %"
        plots += [
            (line_plot(chart, _STEPS, unit), title.capitalize()) for chart in charts(means, recipe.compare)
        ]
    if not plots:
        return
    yield '<h2 id="curves">Learning curves</h2>'
    yield figures(plots)
    place = f" at {escape(group)}" if group else ""
    yield (
        f'<p class="small">Mean over seeds{place}. The unused training images are only watched: they choose nothing. The test images are '
        "read once, at the end.</p>"
    )


def charts(curves: Curves, compare: Sequence[str]) -> list[Curves]:
    """The curves spread over charts of at most :data:`LINES` lines; each chart has the rows of comparison."""
    if len(curves) <= LINES:
        return [curves] if curves else []
    shared = {label: line for label, line in curves.items() if label in compare}
    others = [label for label in curves if label not in compare]
    room = max(1, LINES - len(shared))
    return [
        {**shared, **{label: curves[label] for label in others[first : first + room]}}
        for first in range(0, len(others), room)
    ]


def _mean_curve(folders: Sequence[Path], column: str) -> list[tuple[float, float]]:
    """(step, mean over run directories) of a column of metrics.csv, at the steps that all runs with this column logged."""
    runs = [run for run in (_read_column(folder, column) for folder in folders) if run]
    steps = sorted(set.intersection(*(set(run) for run in runs))) if runs else []
    return [(step, statistics.fmean(run[step] for run in runs)) for step in steps]


def _read_column(folder: Path, column: str) -> Mapping[int, float]:
    """Step -> value; accuracies in percent."""
    path = folder / "metrics.csv"
    if not path.is_file():
        return {}
    scale = 100.0 if column.endswith("accuracy") else 1.0
    with path.open(newline="", encoding="utf-8") as handle:
        return {
            int(row["step"]): scale * float(row[column]) for row in csv.DictReader(handle) if row.get(column)
        }
