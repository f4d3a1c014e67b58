"""Inline SVG for the reports: the parts that every drawing is made of, and histograms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

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
WIDTH = 860
"""Of the view box; the page scales it."""


def colour(position: int) -> str:
    return COLOURS[position % len(COLOURS)]


def ticks(low: float, high: float) -> list[float]:
    """Four to nine round numbers from low to high."""
    raw = (high - low) / 6
    power = 10 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def grid_line(x: float, top: float, bottom: float, label: str) -> str:
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}" class="grid"/>'
        f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{label}</text>'
    )


def frame(height: float, parts: Sequence[str], title: str, width: int = WIDTH) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height:.0f}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )


def histogram(
    series: Mapping[str, Sequence[float]], edges: Sequence[float], x_label: str, width: int = WIDTH // 2
) -> str:
    """Bars of the share of each bin, the series side by side in it.

    Args:
        series: label -> counts, one a bin; each is scaled to 100 percent by itself.
        edges: of the bins, ascending, one more than there are bins.
    """
    left, right, top, plot = 44, 10, 24 if len(series) > 1 else 8, 150
    shares = {label: [100 * c / max(1, sum(counts)) for c in counts] for label, counts in series.items()}
    high = max([1.0, *(share for values in shares.values() for share in values)])

    def x(value: float) -> float:
        return left + (value - edges[0]) / (edges[-1] - edges[0]) * (width - left - right)

    parts = []
    for tick in ticks(0, high):
        y = top + plot * (1 - tick / high)
        parts.append(f'<line x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}%</text>')
    for number, (label, values) in enumerate(shares.items()):
        for position, share in enumerate(values):
            first, last = x(edges[position]), x(edges[position + 1])
            bar = (last - first - 1) / len(shares)
            size = plot * share / high
            parts.append(
                f'<rect x="{first + bar * number:.1f}" y="{top + plot - size:.1f}" width="{bar:.1f}" height="{size:.1f}" '
                f'fill="{colour(number + 1)}"><title>{edges[position]:.3g} to {edges[position + 1]:.3g}: {share:.1f}%</title></rect>'
            )
        if len(shares) > 1:
            start = left + number * (width - left) / len(shares)
            parts.append(f'<rect x="{start:.0f}" y="4" width="10" height="10" fill="{colour(number + 1)}"/>')
            parts.append(f'<text x="{start + 15:.0f}" y="13">{escape(label)}</text>')
    for tick in ticks(edges[0], edges[-1]):
        parts.append(f'<text x="{x(tick):.1f}" y="{top + plot + 16}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{left}" y="{top + plot + 34}">{escape(x_label)}</text>')
    return frame(top + plot + 42, parts, x_label, width)
