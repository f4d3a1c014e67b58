"""The two drawings of a report, as inline SVG: results by seed, and curves over steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from ppflow.table import Row

COLOURS = (
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
_WIDTH = 860


def colour(position: int) -> str:
    return COLOURS[position % len(COLOURS)]


def dots(rows: Sequence[Row]) -> str:
    """One line a row: a dot a seed and a bar at the mean, on a common scale of percent."""
    low = math.floor(min(min(row.values) for row in rows) / 5) * 5
    high = min(100, math.ceil(max(max(row.values) for row in rows) / 5) * 5)
    if high <= low:
        low = high - 5
    left, line, top = 240, 30, 8
    height = top + line * len(rows) + 28

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (_WIDTH - left - 60)

    parts = [_grid_line(x(tick), top, height - 24, f"{tick:g}") for tick in _ticks(low, high)]
    for number, row in enumerate(rows):
        y = top + line * number + line / 2
        parts.append(f'<text x="{left - 12}" y="{y + 4}" text-anchor="end">{escape(row.label)}</text>')
        parts.extend(
            f'<circle cx="{x(v):.1f}" cy="{y}" r="4" fill="{colour(number)}" fill-opacity=".45"/>'
            for v in row.values
        )
        parts.append(
            f'<rect x="{x(row.mean) - 1.5:.1f}" y="{y - 10}" width="3" height="20" fill="{colour(number)}"/>'
        )
        parts.append(f'<text x="{_WIDTH - 4}" y="{y + 4}" text-anchor="end">{row.mean:.1f}</text>')
    return _svg(height, parts, "accuracy by row: a dot a seed, a bar at the mean")


def curves(series: Mapping[str, Sequence[tuple[float, float]]], x_label: str, y_label: str) -> str:
    """Lines over steps. `series` maps a label to (x, y) points."""
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    left, right, top, plot = 56, 230, 12, 260
    x_high = max(x for x, _ in points) or 1.0
    y_low, y_high = min(y for _, y in points), max(y for _, y in points)
    if y_high <= y_low:
        y_high = y_low + 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return left + x / x_high * (_WIDTH - left - right), top + plot - (y - y_low) / (y_high - y_low) * plot

    parts = []
    for tick in _ticks(y_low, y_high):
        _, y = place(0, tick)
        parts.append(f'<line x1="{left}" x2="{_WIDTH - right}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in _ticks(0, x_high):
        x, _ = place(tick, y_low)
        parts.append(f'<text x="{x:.1f}" y="{top + plot + 18}" text-anchor="middle">{tick:g}</text>')
    parts.append(
        f'<text x="{left}" y="{top + plot + 36}">{escape(x_label)}; upwards: {escape(y_label)}</text>'
    )
    for number, (label, line) in enumerate(series.items()):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour(number)}" stroke-width="2"/>')
        y = top + 14 + 20 * number
        parts.append(
            f'<rect x="{_WIDTH - right + 16}" y="{y - 9}" width="14" height="4" fill="{colour(number)}"/>'
        )
        parts.append(f'<text x="{_WIDTH - right + 38}" y="{y - 3}">{escape(label)}</text>')
    return _svg(top + plot + 44, parts, f"{y_label} over {x_label}")


def _ticks(low: float, high: float) -> list[float]:
    """Four to nine round numbers from low to high."""
    raw = (high - low) / 6
    power = 10 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _grid_line(x: float, top: float, bottom: float, label: str) -> str:
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}" class="grid"/>'
        f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{label}</text>'
    )


def _svg(height: float, parts: Sequence[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )
