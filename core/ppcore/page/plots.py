"""The plots of the reports, as inline SVG: histograms, dots in rows, lines over steps."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from ppcore.page.svg import (
    LETTER,
    WIDTH,
    Scale,
    circle,
    colour,
    drawing,
    polyline,
    rect,
    text,
    x_grid,
    x_labels,
    y_grid,
)


def histogram(series: Mapping[str, Sequence[float]], edges: Sequence[float], x_label: str) -> str:
    """Bars of the share of each bin, the series side by side in it; half as wide as the page.

    Args:
        series: label -> counts, one a bin; each is scaled to 100 percent by itself.
        edges: of the bins, ascending, one more than there are bins.
    """
    width, left, right, top = WIDTH // 2, 44, 10, 24 if len(series) > 1 else 8
    bottom = top + 150
    shares = {label: [100 * c / max(1, sum(counts)) for c in counts] for label, counts in series.items()}
    x = Scale(edges[0], edges[-1], left, width - right)
    y = Scale(0, max([1.0, *(share for values in shares.values() for share in values)]), bottom, top)
    marks = y_grid(y, left, width - right, "%")
    for number, (label, values) in enumerate(shares.items()):
        fill = colour(number + 1)
        for first, last, share in zip(edges, edges[1:], values, strict=False):
            bar = (x(last) - x(first) - 1) / len(shares)
            title = f"{first:.3g} to {last:.3g}: {share:.1f}%"
            marks.append(rect(x(first) + bar * number, y(share), (bar, bottom - y(share)), fill, title))
        if len(shares) > 1:
            start = left + number * (width - left) / len(shares)
            marks += [rect(start, 4, (10, 10), fill), text(start + 15, 13, label)]
    marks += [*x_labels(x, bottom + 16), text(left, bottom + 34, x_label)]
    return drawing(width, bottom + 42, marks, x_label)


def dot_plot(rows: Mapping[str, Sequence[float]], title: str) -> str:
    """One line a row: a dot a value and a bar at their mean, on a common scale of percent.

    Args:
        rows: label -> values in percent.
    """
    low = math.floor(min(map(min, rows.values())) / 5) * 5
    high = min(100, math.ceil(max(map(max, rows.values())) / 5) * 5)
    left = max(240, LETTER * max(map(len, rows)) + 12)
    line, top = 30, 8
    bottom = top + line * len(rows) + 4
    x = Scale(low if low < high else high - 5, high, left, WIDTH - 60)
    marks = x_grid(x, top, bottom)
    for number, (label, values) in enumerate(rows.items()):
        y, mean = top + line * (number + 0.5), statistics.fmean(values)
        marks.append(text(left - 12, y + 4, label, "end"))
        marks += [circle(x(value), y, colour(number)) for value in values]
        marks.append(rect(x(mean) - 1.5, y - 10, (3, 20), colour(number)))
        marks.append(text(WIDTH - 4, y + 4, f"{mean:.1f}", "end"))
    return drawing(WIDTH, bottom + 24, marks, title)


def line_plot(series: Mapping[str, Sequence[tuple[float, float]]], x_label: str, y_label: str) -> str:
    """Lines from x = 0 on; "" when there is no point.

    Args:
        series: label -> (x, y) points.
    """
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    left, top, bottom = 56, 12, 272
    right = WIDTH - max(230, LETTER * max(map(len, series)) + 42)  # of the plot; its legend stands beside it
    low, high = min(y for _, y in points), max(y for _, y in points)
    x = Scale(0, max(x for x, _ in points) or 1.0, left, right)
    y = Scale(low, high if low < high else low + 1.0, bottom, top)
    marks = [*y_grid(y, left, right), *x_labels(x, bottom + 18)]
    marks.append(text(left, bottom + 36, f"{x_label}; upwards: {y_label}"))
    for number, (label, line) in enumerate(series.items()):
        height = top + 14 + 20 * number
        marks.append(polyline([(x(a), y(b)) for a, b in line], colour(number)))
        marks.append(rect(right + 16, height - 9, (14, 4), colour(number)))
        marks.append(text(right + 38, height - 3, label))
    return drawing(WIDTH, bottom + 44, marks, f"{y_label} over {x_label}")
