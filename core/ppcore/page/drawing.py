"""matplotlib's figures as inline SVG in the colours of the page, whichever of light and dark that is."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

WIDTH = 5.0
"""Of a figure in inches; the page scales it from a telephone's width to half a desk's."""
_INK, _LINE = "#010203", "#040506"  # stand for the page's own colours until the SVG is written
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
"""Of series; legible on white and on black."""
DASHES = ("-", "--", "-.", ":")
"""Of series beyond the colours, and for who tells no colours apart."""
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
    """A figure while it is drawn: `axes` is matplotlib's; `svg` is what it came to, after the block."""

    axes: Any
    svg = ""


@contextmanager
def drawing(height: float, title: str, width: float = WIDTH) -> Iterator[Drawing]:
    """Draw on `.axes`, in inches; `title` is for who cannot see it."""
    from matplotlib import rc_context  # heavy: a second that commands without a report do without
    from matplotlib.figure import Figure  # heavy, likewise

    drawn = Drawing()
    with rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height))
        drawn.axes = figure.subplots()
        yield drawn
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    drawn.svg = _themed(text.getvalue(), title)


def ink(name: str = "ink") -> str:
    """The page's colour for text (`ink`) or for lines (`line`), as matplotlib takes it."""
    return _INK if name == "ink" else _LINE


def _themed(svg: str, title: str) -> str:
    """The `<svg>` element alone, without what would meet other figures of the page."""
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
