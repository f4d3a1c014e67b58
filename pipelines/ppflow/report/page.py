"""One self-contained HTML page of an experiment: the table, the curves, the samples, what conditioned them."""

from __future__ import annotations

import csv
import platform
import statistics
from collections.abc import Mapping, Sequence
from datetime import date
from html import escape
from pathlib import Path

from ppcore.console import format_duration
from ppcore.page import PAIR_STYLE, conditioned, page, pairs, strip, table
from ppcore.shards import ShardSet
from ppcore.targets import load_target
from ppflow.recipe import Recipe
from ppflow.report import curves as svg
from ppflow.report import pictures
from ppflow.runner import Done, Key
from ppflow.statistics import Row, cells, header

Curves = dict[str, list[tuple[float, float]]]
_LINES = 8  # on one chart

_STYLE = """
.classes { display: grid; grid-template-columns: repeat(auto-fill, minmax(262px, 1fr)); gap: .5rem 1rem; }
.classes div { display: flex; align-items: center; gap: .6rem; } .classes b { width: 1.4rem; text-align: right; }
.classes img { height: 32px; }
"""


def make_report(
    recipe: Recipe, rows: Sequence[Row], done: Mapping[Key, Done], seconds: float, command: str
) -> str:
    """The page as HTML text."""
    body = [
        f"<h1>{escape(recipe.title)}</h1>",
        f'<p class="lead">Made by <code>{escape(command)}</code> on {date.today().isoformat()} in {format_duration(seconds)}, '
        f"{len(recipe.seeds)} seeds, {escape(platform.machine())}, Python {platform.python_version()}.</p>",
        "<h2>Accuracy on the target's test images</h2>",
        _table(recipe, rows),
        svg.dots(rows),
        *(f"<p>{escape(note)}</p>" for note in recipe.notes),
        *_curves(recipe, done),
        *_samples(recipe, done),
    ]
    return page(recipe.title, body, _STYLE + PAIR_STYLE)


def _table(recipe: Recipe, rows: Sequence[Row]) -> str:
    return (
        f"{table(header(recipe.compare), [cells(row, recipe.compare) for row in rows])}"
        '<p class="small">Mean ± standard deviation over seeds. Differences are taken seed by seed; in brackets, the seeds in which '
        "the row was ahead.</p>"
    )


def _curves(recipe: Recipe, done: Mapping[Key, Done]) -> list[str]:
    """Mean over seeds of every measure that the training runs logged under the names below."""
    out = []
    for column, title in (
        ("monitor_accuracy", "Accuracy on unused training images, %"),
        ("loss", "Training loss"),
    ):
        series: Curves = {}
        for label, stage in recipe.rows.items():
            runs = [_read_metric(done[stage, seed].node.folder, column) for seed in recipe.seeds]
            line = _mean_curve([run for run in runs if run])
            if line:
                series[label] = line
        if series:
            out.append(f"<h2>{escape(title)}</h2>")
            for chart in _legible(series, recipe.compare):
                out.append(svg.curves(chart, "optimiser steps of the last stage", title.lower()))
    if out:
        out.append(
            '<p class="small">Mean over seeds. The unused training images are watched only: they choose nothing, and the test '
            "images are read once, at the end.</p>"
        )
    return out


def _legible(series: Curves, compare: Sequence[str]) -> list[Curves]:
    """The series on as many charts as it takes, the rows of comparison on each."""
    if len(series) <= _LINES:
        return [series]
    shared = {label: line for label, line in series.items() if label in compare}
    rest = [label for label in series if label not in compare]
    room = max(1, _LINES - len(shared))
    return [
        {**shared, **{label: series[label] for label in rest[first : first + room]}}
        for first in range(0, len(rest), room)
    ]


def _read_metric(folder: Path, column: str) -> dict[int, float]:
    path = folder / "metrics.csv"
    if not path.is_file():
        return {}
    scale = 100.0 if column.endswith("accuracy") else 1.0
    with path.open(newline="") as handle:
        return {
            int(row["step"]): scale * float(row[column]) for row in csv.DictReader(handle) if row.get(column)
        }


def _mean_curve(runs: Sequence[dict[int, float]]) -> list[tuple[float, float]]:
    steps = sorted(set.intersection(*(set(run) for run in runs))) if runs else []
    return [(step, statistics.fmean(run[step] for run in runs)) for step in steps]


def _samples(recipe: Recipe, done: Mapping[Key, Done]) -> list[str]:
    out = []
    shown = {stage: done[stage, seed] for stage, seed in done if seed in (None, recipe.seeds[0])}
    for stage, job in sorted(shown.items(), key=lambda item: list(recipe.stages).index(item[0])):
        folder = str(job.node.folder)
        if job.node.kind == "synth":
            out.append(
                f"<h2>Pseudo pre-training samples by class ({escape(stage)})</h2><div class='classes'>"
            )
            for name, images in pictures.by_class(folder, per_class=6).items():
                out.append(
                    f'<div><b>{escape(name)}</b><img alt="samples of class {escape(name)}" src="{strip(images)}"></div>'
                )
            out.append("</div>")
        elif job.node.kind == "pseudo":
            out.append(f"<h2>Target images and the pseudo samples they conditioned ({escape(stage)})</h2>")
            out.append(
                '<p class="small">Left: a labelled target image. Middle: the largest entries of its soft label under the source '
                "classifier. Right: samples of this set that carry its name.</p>"
            )
            target = load_target(str(job.node.settings["target"]))
            out.append(pairs(conditioned(ShardSet.open(folder, kind="pseudo"), target, samples=9)))
    return out
