"""Plots are well-formed SVG that shows every value, follows the page's colours and needs nothing from outside."""

from __future__ import annotations

import functools
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from ppcore.page import calibration_plot, dot_plot, figures, histogram, line_plot, matrix_plot, page, table

LINES = {"a & b": [(0.0, 1.0), (10.0, 3.0)], "flat": [(0.0, 2.0)]}
NAMES = ("dots", "lines", "marks", "histogram", "matrix", "calibration")


@functools.cache
def plots() -> dict[str, str]:
    return {
        "dots": dot_plot({"Scratch <1>": [80.0, 82.0, 84.0], "PP": [90.0, 91.0, 83.0]}, "accuracy"),
        "lines": line_plot(LINES, "steps", "loss"),
        "marks": line_plot({"PP": [(1.0, 1.0), (2.0, 3.0)]}, "labels", "accuracy", marks=True),
        "histogram": histogram({"few": [1, 3], "many": [30, 10]}, [0.0, 0.5, 1.0], "confidence"),
        "matrix": matrix_plot(np.array([[9, 1], [0, 5]]), ["zero", "one"], "confusion of <PP>"),
        "calibration": calibration_plot({"PP": [(0.5, 0.4), (0.9, 0.95)]}, "calibration"),
    }


@pytest.mark.parametrize("name", NAMES)
def test_plots_are_drawings_in_the_pages_colours_that_say_what_they_are(name: str) -> None:
    drawn = plots()[name]
    root = ET.fromstring(drawn)
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"]
    assert "var(--ink)" in drawn
    assert "#010203" not in drawn
    assert "width" not in root.attrib  # the page scales it
    assert not re.findall(r'href="(?!#|data:)', drawn)
    assert "<metadata" not in drawn


def test_plots_are_the_same_every_time() -> None:
    assert line_plot(LINES, "steps", "loss") == plots()["lines"]


def test_texts_are_texts() -> None:
    assert ">Scratch &lt;1&gt;<" in plots()["dots"]
    assert ">88.0<" in plots()["dots"]  # the mean
    assert ">a &amp; b<" in plots()["lines"]
    assert line_plot({"none": []}, "x", "y") == ""


def test_several_plots_of_a_page_share_no_id_that_differs() -> None:
    seen: dict[str, str] = {}
    for drawn in plots().values():
        for identifier, rest in re.findall(r'<(?:path|g|clipPath|image) id="([^"]+)"([^>]*)>', drawn):
            assert seen.setdefault(identifier, rest) == rest


def test_tables_keep_their_headings_where_lines_are_cards() -> None:
    shown = table(["", "accuracy %"], [["PP & more", "90.1"]], "results")
    assert '<th scope="row" role="rowheader">PP &amp; more</th>' in shown
    assert '<td role="cell" data-head="accuracy %">90.1</td>' in shown
    assert "<caption>results</caption>" in shown
    assert "<thead" not in table((), [["a", "b"]])


def test_pages_need_nothing_from_outside() -> None:
    text = page("a <b>", [figures([(plot, "what it shows") for plot in plots().values()])])
    assert "<title>a &lt;b&gt;</title>" in text
    assert text.count("<figure>") == len(NAMES)
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
