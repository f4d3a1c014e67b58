"""Reports in headless Chromium at the width of a phone and of a desktop, light and dark: nothing is too wide, no errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, WIDTHS, look, require_sound

from ppcore.page import (
    PAIR_STYLE,
    calibration_plot,
    dot_plot,
    figures,
    line_plot,
    matrix_plot,
    page,
    pairs,
    table,
)
from ppcore.page.samples import Conditioned

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian's package chromium)"),
]
NAME = "a rather long name of a row, with what controls it (control)"


@pytest.fixture(scope="module")
def report() -> str:
    """A report with every section, and with long names."""
    rows = {NAME: [71.0, 74.2, 69.9], "PP": [90.0, 91.0, 83.0]}
    lines = {name: [(float(x), values[0] + x) for x in range(5)] for name, values in rows.items()}
    steps = {name: [(0.5, 0.6), (0.9, 0.8)] for name in rows}
    plots = [
        dot_plot(rows, "dots"),
        line_plot(lines, "steps", "accuracy, %"),
        calibration_plot(steps, "calibration"),
        matrix_plot(np.eye(40, dtype=int), [f"class {n}" for n in range(40)], "confusion"),
    ]
    images = [np.full((32, 32, 1), 20 * n, np.uint8) for n in range(9)]
    pair = Conditioned("a class of a long name", images[0], [("another long name", 0.5), ("B", 0.25)], images)
    cells = [[name, "71.7 ± 2.2", "+9.7 [+7.1, +12.3]* (5/5)"] for name in rows]
    body = [
        table(["", "accuracy %", f"minus {NAME} [95 %]"], cells),
        figures([(plot, "what it shows") for plot in plots]),
        pairs([pair]),
        f"<p><code>ppflow run {'very_long_name_without_a_space' * 5}</code></p>",
    ]
    return page("All that there is", body, PAIR_STYLE)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_nothing_sticks_out(report: str, tmp_path: Path, width: int, dark: bool) -> None:
    require_sound(look(report, tmp_path, width, dark=dark), width, dark=dark)


def test_what_sticks_out_is_seen(tmp_path: Path) -> None:
    """A page with these faults fails the check."""
    wide = page("Too wide", ['<p style="width: 900px">wide</p>'])
    with pytest.raises(AssertionError, match="wide"):
        require_sound(look(wide, tmp_path, 390, dark=False), 390, dark=False)
