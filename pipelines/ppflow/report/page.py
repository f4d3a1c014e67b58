"""One self-contained HTML page of an experiment."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from html import escape

from ppcore.console import format_duration
from ppcore.page import CLASS_STYLE, PAIR_STYLE, page
from ppflow.jobs import Graph, Outcomes
from ppflow.recipe import Recipe
from ppflow.report.judged import judged
from ppflow.report.measured import against_labels, curves, tables
from ppflow.report.provenance import costs, provenance
from ppflow.report.samples import samples
from ppflow.statistics import Table

_HEADING = re.compile(r'<h2 id="([^"]+)">(.*?)</h2>')


def make_report(
    recipe: Recipe, graph: Graph, table: Table, outcomes: Outcomes, *, seconds: float, command: str
) -> str:
    """The page as HTML text; of an experiment that is incomplete, what there is."""
    body = [
        *tables(table, recipe.headline),
        *(f"<p>{escape(note)}</p>" for note in recipe.notes),
        *_missing(graph, outcomes),
        *against_labels(recipe, graph, table),
        *curves(recipe, graph, outcomes),
        *judged(recipe, graph, outcomes, table),
        *samples(recipe, graph, outcomes),
        *costs(graph, outcomes),
        *provenance(graph, outcomes),
    ]
    seeds = f"{len(table.seeds)} seed{'s' if len(table.seeds) > 1 else ''}"
    top = [
        f"<h1>{escape(recipe.title)}</h1>",
        f'<p class="lead">Made by <code>{escape(command)}</code> on {date.today().isoformat()} in {format_duration(seconds)}, {seeds}.</p>',
        _contents(body),
    ]
    return page(recipe.title, [*top, *body], CLASS_STYLE + PAIR_STYLE)


def _contents(body: Iterable[str]) -> str:
    """Links to the sections."""
    headings = [match for piece in body for match in _HEADING.findall(piece)]
    links = "".join(f'<li><a href="#{anchor}">{title}</a></li>' for anchor, title in headings)
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>'


def _missing(graph: Graph, outcomes: Outcomes) -> list[str]:
    """What failed, and what was left out for it."""
    if not outcomes.failed:
        return []
    lines = [f"<li>{escape(f.job.label)}: {escape(f.reason)}</li>" for f in outcomes.failed.values()]
    lines += [
        f"<li>{escape(job.label)}: left out, it needs what failed</li>" for job in outcomes.skipped.values()
    ]
    return ['<h2 id="failed">Failed</h2>', f"<ul>{''.join(lines)}</ul>"]
