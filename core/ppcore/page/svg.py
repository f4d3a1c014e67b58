"""Inline SVG: scales, axes and the marks that every plot is made of, in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 860
"""Of the view box of a plot as wide as the page; the page scales it."""
LETTER = 7
"""Units that a letter of a label takes, about."""
_COLOURS = (
    "#5b6470",
    "#2f6fb0",
    "#b3652b",
    "#3c8a55",
    "#8a4f9e",
    "#a83f52",
    "#2b8a8a",
    "#8a7a2b",
    "#4c52b0",
    "#777777",
)


@dataclass(frozen=True)
class Scale:
    """Maps values from `low` to `high` linearly to units from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Four to nine round numbers from low to high."""
        raw = (self.high - self.low) / 6
        power = 10 ** math.floor(math.log10(raw))
        step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(i * step, 10) for i in range(first, last + 1)]


def colour(number: int) -> str:
    """Of the series of this number."""
    return _COLOURS[number % len(_COLOURS)]


def text(x: float, y: float, content: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'


def rect(x: float, y: float, size: tuple[float, float], fill: str, title: str = "") -> str:
    """A bar of (width, height); `title` is shown under the pointer."""
    shown = f"<title>{escape(title)}</title>" if title else ""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{size[0]:.1f}" height="{size[1]:.1f}" fill="{fill}">{shown}</rect>'


def circle(x: float, y: float, fill: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}" fill-opacity=".45"/>'


def polyline(points: Sequence[tuple[float, float]], stroke: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{stroke}" stroke-width="2"/>'


def x_labels(scale: Scale, y: float) -> list[str]:
    return [text(scale(tick), y, f"{tick:g}", "middle") for tick in scale.ticks()]


def x_grid(scale: Scale, top: float, bottom: float) -> list[str]:
    """Vertical lines at the ticks, the labels below them."""
    lines = [_grid_line(scale(tick), top, scale(tick), bottom) for tick in scale.ticks()]
    return [*lines, *x_labels(scale, bottom + 16)]


def y_grid(scale: Scale, left: float, right: float, unit: str = "") -> list[str]:
    """Horizontal lines at the ticks, the labels left of them."""
    lines = [_grid_line(left, scale(tick), right, scale(tick)) for tick in scale.ticks()]
    return [*lines, *(text(left - 7, scale(tick) + 4, f"{tick:g}{unit}", "end") for tick in scale.ticks())]


def drawing(width: float, height: float, marks: Sequence[str], title: str) -> str:
    """The whole `<svg>`; `title` is for who cannot see it."""
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(marks)}</svg>'
    )


def _grid_line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="grid"/>'
