"""Plots are well-formed SVG that shows every value and needs nothing from outside."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ppcore.page import dot_plot, histogram, line_plot
from ppcore.page.svg import Scale


def test_dots_show_every_value() -> None:
    plot = dot_plot({"Scratch <1>": [80.0, 82.0, 84.0], "PP": [90.0, 91.0, 83.0]}, "accuracy")
    ET.fromstring(plot)
    assert plot.count("<circle") == 6
    assert ">88.0<" in plot  # the mean


def test_lines_are_labelled() -> None:
    plot = line_plot({"a & b": [(0, 1.0), (10, 3.0)], "flat": [(0, 2.0)]}, "steps", "loss")
    ET.fromstring(plot)
    assert plot.count("<polyline") == 2
    assert "a &amp; b" in plot
    assert line_plot({"none": []}, "x", "y") == ""


def test_histograms_scale_every_series_to_a_hundred_percent() -> None:
    plot = histogram({"few": [1, 3], "many": [30, 10]}, [0.0, 0.5, 1.0], "confidence")
    ET.fromstring(plot)
    assert [plot.count(f"{share}.0%</title>") for share in (25, 75)] == [2, 2]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 100), (37.5, 41.2), (-3, 7e5)])
def test_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    ticks = Scale(low, high, 0, 100).ticks()
    assert 3 <= len(ticks) <= 9
    assert all(low <= tick <= high for tick in ticks)
