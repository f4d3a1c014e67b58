"""The two drawings of a report, as inline SVG: results by seed, and curves over steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from ppcore.page import WIDTH, colour, frame, grid_line, ticks
from ppflow.statistics import Row

_LETTER = 7  # pixels a letter of a label takes, about


def dots(rows: Sequence[Row]) -> str:
    """One line a row: a dot a seed and a bar at the mean, on a common scale of percent."""
    low = math.floor(min(min(row.values) for row in rows) / 5) * 5
    high = min(100, math.ceil(max(max(row.values) for row in rows) / 5) * 5)
    if high <= low:
        low = high - 5
    left = max(240, _LETTER * max(len(row.label) for row in rows) + 12)
    line, top = 30, 8
    height = top + line * len(rows) + 28

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (WIDTH - left - 60)

    parts = [grid_line(x(tick), top, height - 24, f"{tick:g}") for tick in ticks(low, high)]
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
        parts.append(f'<text x="{WIDTH - 4}" y="{y + 4}" text-anchor="end">{row.mean:.1f}</text>')
    return frame(height, parts, "accuracy by row: a dot a seed, a bar at the mean")


def curves(series: Mapping[str, Sequence[tuple[float, float]]], x_label: str, y_label: str) -> str:
    """Lines over steps. `series` maps a label to (x, y) points."""
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    left, right, top, plot = 56, max(230, _LETTER * max(map(len, series)) + 42), 12, 260
    x_high = max(x for x, _ in points) or 1.0
    y_low, y_high = min(y for _, y in points), max(y for _, y in points)
    if y_high <= y_low:
        y_high = y_low + 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return left + x / x_high * (WIDTH - left - right), top + plot - (y - y_low) / (y_high - y_low) * plot

    parts = []
    for tick in ticks(y_low, y_high):
        _, y = place(0, tick)
        parts.append(f'<line x1="{left}" x2="{WIDTH - right}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in ticks(0, x_high):
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
            f'<rect x="{WIDTH - right + 16}" y="{y - 9}" width="14" height="4" fill="{colour(number)}"/>'
        )
        parts.append(f'<text x="{WIDTH - right + 38}" y="{y - 3}">{escape(label)}</text>')
    return frame(top + plot + 44, parts, f"{y_label} over {x_label}")
