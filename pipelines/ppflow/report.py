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
from ppflow import pictures, svg
from ppflow.graph import Key
from ppflow.recipe import Recipe
from ppflow.run import Done
from ppflow.table import Row, cells, header

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --paper: #fff; --line: #d8dce1; --soft: #5f6873; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --paper: #15181c; --line: #353b43; --soft: #9aa3ad; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
body { max-width: 900px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.4rem; }
p.lead, .small { color: var(--soft); } .small { font-size: .85rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
.wide { overflow-x: auto; } svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .grid { stroke: var(--line); stroke-width: 1; }
.classes { display: grid; grid-template-columns: repeat(auto-fill, minmax(262px, 1fr)); gap: .5rem 1rem; }
.classes div, .pair { display: flex; align-items: center; gap: .6rem; } .classes b { width: 1.4rem; text-align: right; }
.classes img { height: 32px; } .pair { margin: .35rem 0; } .pair img { height: 48px; } .pair .soft { width: 12.5rem; }
.pair b { width: 2rem; }
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
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(recipe.title)}</title><style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _table(recipe: Recipe, rows: Sequence[Row]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header(recipe.compare))
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in cells(row, recipe.compare)) for row in rows]
    return (
        f'<div class="wide"><table><tr>{head}</tr>{"".join(f"<tr>{line}</tr>" for line in lines)}</table></div>'
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
        series = {}
        for label, stage in recipe.rows.items():
            runs = [_read_metric(done[stage, seed].node.folder, column) for seed in recipe.seeds]
            line = _mean_curve([run for run in runs if run])
            if line:
                series[label] = line
        if series:
            out.append(
                f"<h2>{escape(title)}</h2>"
                + svg.curves(series, "optimiser steps of the last stage", title.lower())
            )
    if out:
        out.append(
            '<p class="small">Mean over seeds. The unused training images are watched only: they choose nothing, and the test '
            "images are read once, at the end.</p>"
        )
    return out


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
    for (stage, seed), job in done.items():
        if seed not in (None, recipe.seeds[0]):
            continue
        folder = str(job.node.folder)
        if job.node.kind == "synth":
            out.append(
                f"<h2>Pseudo pre-training samples by class ({escape(stage)})</h2><div class='classes'>"
            )
            for name, images in pictures.by_class(folder, per_class=6).items():
                out.append(
                    f'<div><b>{escape(name)}</b><img alt="samples of class {escape(name)}" src="{pictures.strip(images)}"></div>'
                )
            out.append("</div>")
        elif job.node.kind == "pseudo":
            out.append(f"<h2>Target images and the pseudo samples they conditioned ({escape(stage)})</h2>")
            out.append(
                '<p class="small">Left: a labelled target image. Middle: the largest entries of its soft label under the source '
                "classifier. Right: samples of this set that carry its name.</p>"
            )
            out.extend(
                _pair(item)
                for item in pictures.conditioned(folder, str(job.node.settings["target"]), samples=9)
            )
    return out


def _pair(item: pictures.Conditioned) -> str:
    soft = " · ".join(f"{escape(name)} {value:.2f}" for name, value in item.soft)
    return (
        f'<div class="pair"><b>{escape(item.target_class)}</b><img alt="target image" src="{pictures.strip([item.image])}">'
        f'<span class="soft">{soft}</span><img alt="pseudo samples" src="{pictures.strip(item.samples)}"></div>'
    )
