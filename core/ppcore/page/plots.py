"""The page of a report, and its plots as inline SVG in the light and dark colours of the page."""

from __future__ import annotations

import io
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import numpy as np

STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --paper: #fff; --line: #d8dce1; --soft: #59616b; --link: #1f5fa8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --paper: #15181c; --line: #353b43; --soft: #9aa3ad; --link: #7db4f0; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); overflow-wrap: anywhere; }
body { max-width: 980px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin-bottom: .2rem; } h2 { font-size: 1.2rem; margin-top: 2.6rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; } a { color: var(--link); }
p.lead, .small, figcaption { color: var(--soft); } .small, figcaption { font-size: .85rem; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1rem; list-style: none; padding: 0; margin: 1rem 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } tbody th { font-weight: 500; }
img { max-width: 100%; height: auto; } figure { margin: 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); gap: 1rem 1.5rem; }
svg { display: block; width: 100%; height: auto; max-width: 560px; } svg text { font-family: system-ui, sans-serif !important; }
@media (max-width: 640px) {
  table, tbody, tr, tbody th, td { display: block; width: 100%; } thead { position: absolute; left: -9999px; }
  tr { padding: .5rem 0; border-bottom: 1px solid var(--line); }
  tbody th, td { border: 0; padding: .1rem 0; } tbody th { font-weight: 600; }
  td[data-head]:not([data-head=""])::before { content: attr(data-head) ": "; color: var(--soft); } td:empty { display: none; }
}
"""


def page(title: str, body: Iterable[str], style: str = "") -> str:
    """The page as HTML text.

    Args:
        title: plain text.
        body: pieces of HTML.
        style: additional CSS.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """A table of plain texts. The first cell of a row is its heading; on narrow screens every row becomes a card.

    An empty `head` omits the header row. ARIA roles are explicit because a browser does not treat cards as a table.
    """
    top = "".join(f'<th scope="col" role="columnheader">{escape(cell)}</th>' for cell in head)
    top = f'<thead role="rowgroup"><tr role="row">{top}</tr></thead>' if head else ""
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    lines = "".join(_line(head, row) for row in rows)
    return f'<table role="table">{title}{top}<tbody role="rowgroup">{lines}</tbody></table>'


def figures(plots: Iterable[tuple[str, str]]) -> str:
    """(plot, caption) pairs, side by side on wide screens."""
    shown = (
        f"<figure>{plot}<figcaption>{escape(caption)}</figcaption></figure>"
        for plot, caption in plots
        if plot
    )
    return f'<div class="plots">{"".join(shown)}</div>'


def _line(head: Sequence[str], row: Sequence[str]) -> str:
    names = head or [""] * len(row)
    first = f'<th scope="row" role="rowheader">{escape(row[0])}</th>' if row else ""
    rest = "".join(
        f'<td role="cell" data-head="{escape(name)}">{escape(cell)}</td>'
        for name, cell in zip(names[1:], row[1:], strict=False)
    )
    return f'<tr role="row">{first}{rest}</tr>'


WIDTH = 5.0
"""Width of a figure in inches; the page scales it."""
_INK, _LINE = "#010203", "#040506"  # placeholders for the colours of the page
COLOURS = (
    "#3b7dc4",
    "#c8702c",
    "#3f9a5f",
    "#a05bb8",
    "#c2485e",
    "#2f9c9c",
    "#9c8a2c",
    "#6a70d8",
    "#8a929c",
    "#b06a8a",
)
"""Colours of series, readable on white and on black."""
DASHES = ("-", "--", "-.", ":")
"""Line styles, for more series than colours."""
_SETTINGS: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "pptransfer",  # the same figure, the same bytes
    "font.size": 10,
    "font.family": "sans-serif",
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _LINE,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


class Drawing:
    """A figure: matplotlib's `axes` to draw on, and after the `with` block its `svg`."""

    axes: Any
    svg = ""


@contextmanager
def drawing(height: float, title: str, width: float = WIDTH) -> Iterator[Drawing]:
    """Draw on `.axes`. `height` and `width` in inches; `title` is the text for screen readers."""
    from matplotlib import rc_context  # slow to import, not needed without a report
    from matplotlib.figure import Figure  # slow to import

    drawn = Drawing()
    with rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height))
        drawn.axes = figure.subplots()
        yield drawn
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    drawn.svg = _themed(text.getvalue(), title)


def ink(name: str = "ink") -> str:
    """The page's colour for text (`ink`) or lines (`line`), for matplotlib."""
    return _INK if name == "ink" else _LINE


def _themed(svg: str, title: str) -> str:
    """The `<svg>` element, without ids and styles that would clash with other figures of the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.S)
    svg = re.sub(r' id="[A-Za-z.]*[A-Za-z]+\d*_\d+"', "", svg)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.S)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = svg.replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "").replace("xlink:href", "href")
    svg = svg.replace(_INK, "var(--ink)").replace(_LINE, "var(--line)")
    label = escape(title)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).replace(
        ">", f"><title>{label}</title>", 1
    )


def histogram(series: Mapping[str, Sequence[float]], edges: Sequence[float], x_label: str) -> str:
    """A histogram with the bars of all series side by side in each bin.

    Args:
        series: label -> counts of the bins; each series is scaled to 100 percent.
        edges: edges of the bins, ascending, one more than bins.
    """
    left = np.asarray(edges[:-1], float)
    widths = np.diff(np.asarray(edges, float)) / max(1, len(series))
    with drawing(2.4, x_label) as drawn:
        for number, (label, counts) in enumerate(series.items()):
            shares = 100 * np.asarray(counts, float) / max(1, sum(counts))
            drawn.axes.bar(
                left + number * widths,
                shares,
                0.94 * widths,
                align="edge",
                color=_colour(number),
                label=label,
            )
        drawn.axes.set_xlabel(x_label)
        drawn.axes.set_ylabel("% of images")
        drawn.axes.grid(axis="y")
        if len(series) > 1:
            drawn.axes.legend()
    return drawn.svg


def dot_plot(rows: Mapping[str, Sequence[float]], title: str) -> str:
    """One line for each row, with a dot for each value and a bar at their mean.

    Args:
        rows: label -> values in percent.
    """
    with drawing(0.6 + 0.42 * len(rows), title) as drawn:
        axes = drawn.axes
        for number, (label, values) in enumerate(rows.items()):
            mean = statistics.fmean(values)
            axes.plot(values, [number] * len(values), "o", color=_colour(number), alpha=0.45, markersize=6)
            axes.plot([mean], [number], "|", color=_colour(number), markersize=13, markeredgewidth=3)
            for x, text, side in ((0, label, "left"), (1, f"{mean:.1f}", "right")):
                place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
                axes.annotate(text, (x, number), (0, 13), ha=side, va="center", **place)
        axes.set_ylim(len(rows) - 0.6, -0.8)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.06)
        axes.grid(axis="x")
        axes.set_xlabel("accuracy, %")
    return drawn.svg


def line_plot(
    series: Mapping[str, Sequence[tuple[float, float]]], x_label: str, y_label: str, *, marks: bool = False
) -> str:
    """A line for each series; "" if there are no points.

    Args:
        series: label -> (x, y) points.
        marks: draw a dot at every point, and a logarithmic x axis with a tick at every x.
    """
    if not any(series.values()):
        return ""
    with drawing(2.6 + 0.19 * len(series), f"{y_label} over {x_label}") as drawn:
        axes = drawn.axes
        for number, (label, points) in enumerate(series.items()):
            x, y = zip(*points, strict=True) if points else ((), ())
            style = DASHES[number // len(COLOURS) % len(DASHES)]
            axes.plot(
                x, y, style, marker="o" if marks else "", color=_colour(number), label=label, linewidth=1.8
            )
        if marks:
            ticks = sorted({x for points in series.values() for x, _ in points})
            axes.set_xscale("log")
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid()
        axes.figure.legend(loc="outside lower left", ncols=1, fontsize=9)
    return drawn.svg


def matrix_plot(matrix: np.ndarray, names: Sequence[str], title: str) -> str:
    """A confusion matrix: rows are true classes, columns predictions, each row sums to 1; with names up to 30 classes."""
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    pixels = np.empty((*shares.shape, 4))
    pixels[..., :3] = [int(COLOURS[0][i : i + 2], 16) / 255 for i in (1, 3, 5)]
    pixels[..., 3] = np.sqrt(shares)  # makes the few mistakes visible
    with drawing(4.2, title) as drawn:
        axes = drawn.axes
        axes.imshow(pixels, interpolation="nearest")
        named = range(len(names)) if len(names) <= 30 else []
        size = 9 if len(names) <= 12 else 6.5
        axes.set_xticks(named, [names[i] for i in named], rotation=90, fontsize=size)
        axes.set_yticks(named, [names[i] for i in named], fontsize=size)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
    return drawn.svg


def calibration_plot(series: Mapping[str, Sequence[tuple[float, float]]], title: str) -> str:
    """Accuracy over confidence for each bin, with the diagonal of a calibrated classifier.

    Args:
        series: label -> (confidence, accuracy) points, from 0 to 1.
    """
    with drawing(3.0 + 0.19 * len(series), title) as drawn:
        axes = drawn.axes
        axes.plot([0, 1], [0, 1], ":", color=ink())
        for number, (label, points) in enumerate(series.items()):
            x, y = zip(*points, strict=True) if points else ((), ())
            axes.plot(x, y, "-o", color=_colour(number), label=label, markersize=4, linewidth=1.6)
        axes.set_xlabel("confidence")
        axes.set_ylabel("accuracy")
        axes.grid()
        axes.figure.legend(loc="outside lower left", fontsize=9)
    return drawn.svg


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]
