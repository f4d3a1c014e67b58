"""The report of an experiment: one self-contained HTML page."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Iterator
from datetime import date
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ppcore import __version__
from ppcore.console import format_duration
from ppcore.page import CLASS_STYLE, PAIR_STYLE, page, table
from ppcore.shards import PLAN
from ppcore.storage import read_json
from ppflow.jobs import Graph, Outcomes, code_version
from ppflow.recipe import Recipe
from ppflow.report.measured import against_labels, curves, tables
from ppflow.report.samples import confusion_and_calibration, samples
from ppflow.statistics import Table

_HEADING = re.compile(r'<h2 id="([^"]+)">(.*?)</h2>')
_LIBRARIES = ("torch", "torchvision", "numpy", "pyarrow", "diffusers")


def make_report(
    recipe: Recipe, graph: Graph, results: Table, outcomes: Outcomes, *, seconds: float, command: str
) -> str:
    """The page as HTML text. If jobs are missing, it shows the results of the others."""
    body = [
        *tables(results, recipe.headline),
        *(f"<p>{escape(note)}</p>" for note in recipe.notes),
        *_failed(graph, outcomes),
        *against_labels(recipe, graph, results),
        *curves(recipe, graph, outcomes),
        *confusion_and_calibration(recipe, graph, outcomes, results),
        *samples(recipe, graph, outcomes),
        *_cost(graph, outcomes),
        *_provenance(graph, outcomes),
    ]
    seeds = f"{len(results.seeds)} seed{'s' if len(results.seeds) > 1 else ''}"
    sections = [match for piece in body for match in _HEADING.findall(piece)]
    links = "".join(f'<li><a href="#{anchor}">{title}</a></li>' for anchor, title in sections)
    top = [
        f"<h1>{escape(recipe.title)}</h1>",
        f'<p class="lead">Made by <code>{escape(command)}</code> on {date.today().isoformat()} in {format_duration(seconds)}, {seeds}.</p>',
        f'<nav aria-label="Contents"><ul>{links}</ul></nav>',
    ]
    return page(recipe.title, [*top, *body], CLASS_STYLE + PAIR_STYLE)


def _failed(graph: Graph, outcomes: Outcomes) -> Iterator[str]:
    """The jobs that failed, and those that were skipped because of them."""
    if not outcomes.failed:
        return
    lines = [f"{graph.jobs[digest].label}: {failure.reason}" for digest, failure in outcomes.failed.items()]
    lines += [f"{graph.jobs[digest].label}: skipped, it needs a failed job" for digest in outcomes.skipped]
    yield '<h2 id="failed">Failed</h2>'
    yield f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _cost(graph: Graph, outcomes: Outcomes) -> Iterator[str]:
    """One line for each stage: how often it ran, what it made, how long it took in all."""
    sums: dict[tuple[str, str], list[float]] = {}
    for digest, result in outcomes.done.items():
        job = graph.jobs[digest]
        amounts = (1, result.samples or 0, result.steps or 0, result.seconds or 0.0)
        line = sums.setdefault((job.stage, job.kind), [0, 0, 0, 0.0])
        sums[job.stage, job.kind] = [a + b for a, b in zip(line, amounts, strict=True)]
    sums["all", ""] = [sum(column) for column in zip(*sums.values(), strict=True)]
    rows = [
        [
            stage,
            kind,
            f"{runs:.0f}",
            f"{made:,.0f}" if made else "",
            f"{steps:,.0f}" if steps else "",
            format_duration(took),
        ]
        for (stage, kind), (runs, made, steps, took) in sums.items()
    ]
    yield '<h2 id="cost">Time and images of every stage</h2>'
    yield table(["stage", "kind", "runs", "images made", "training steps", "time of one process"], rows)


def _provenance(graph: Graph, outcomes: Outcomes) -> Iterator[str]:
    """The plans of the generated sets with the licences of their sources, and the code that ran."""
    yield '<h2 id="provenance">Provenance</h2>'
    lines = []
    for digest in outcomes.done:
        job = graph.jobs[digest]
        if job.kind in ("synth", "pseudo"):
            plan: dict[str, Any] = read_json(job.folder / PLAN, dict)
            source, target = plan.get("source", {}), plan.get("target") or {}
            values = (
                str(plan.get("fingerprint", ""))[:12],
                source.get("name", ""),
                source.get("licence", ""),
                str(source.get("revision") or "")[:12],
                target.get("name", ""),
            )
            lines.append([job.label, *map(str, values)])
    if lines:
        yield table(["generated set", "plan", "source", "licence", "commit", "target"], lines)
    kinds = dict.fromkeys(graph.jobs[digest].kind for digest in outcomes.done)
    facts = [
        ("program", f"pptransfer {__version__}{_commit()}"),
        *((f"code of {kind} stages", code_version(kind)[:12]) for kind in kinds),
        ("libraries", ", ".join(filter(None, map(_library, _LIBRARIES)))),
        ("machine", f"{platform.machine()}, Python {platform.python_version()}"),
    ]
    yield table(["what", "version"], facts)


def _library(name: str) -> str:
    """`torch 2.11.0`; empty if it is not installed."""
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return ""


def _commit() -> str:
    """`, commit 0123456789ab` if the program runs from a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return f", commit {done.stdout.strip()}"
