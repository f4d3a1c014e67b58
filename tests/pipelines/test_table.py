import pytest

from ppflow.report.curves import legible
from ppflow.statistics import as_csv, as_text, make_rows

RESULTS = {"Scratch": [80.0, 82.0, 84.0], "PP": [90.0, 91.0, 83.0]}


def test_paired_differences():
    scratch, pp = make_rows(RESULTS, ["Scratch"])
    assert scratch.differences == {}
    delta = pp.differences["Scratch"]
    assert (pp.mean, scratch.mean) == (88.0, 82.0)
    assert (delta.mean, delta.wins, delta.seeds) == (6.0, 2, 3)
    assert delta.std == pytest.approx(6.0828, abs=1e-4)  # of 10, 9, -1
    assert delta.interval == pytest.approx((6 - 15.1103, 6 + 15.1103), abs=1e-3)  # t(2) = 4.3027
    assert scratch.std == 2.0


def test_pairing_needs_the_same_seeds():
    with pytest.raises(ValueError, match="zip"):
        make_rows({"a": [1.0], "b": [1.0, 2.0]}, ["a"])


def test_text_and_csv():
    rows = make_rows(RESULTS, ["Scratch"])
    text = as_text(rows, ["Scratch"])
    assert "| PP      | 88.0 ± 4.4 | +6.0 [-9.1, +21.1] (2/3) |" in text
    assert len({len(line) for line in text.splitlines()}) == 1
    assert as_csv(rows, [0, 1, 2]).splitlines()[4] == "PP,0,90.0000"


def test_one_seed_has_no_deviation():
    alone = make_rows({"a": [1.0], "b": [3.0]}, ["a"])
    assert alone[0].std == 0.0
    assert "+2.0 (1/1)" in as_text(alone, ["a"])


def test_many_curves_are_spread_over_charts():
    series = {f"row {n}": [(0.0, n), (1.0, n)] for n in range(20)}
    charts = legible(series, ["row 3", "row 9"])
    assert all(len(chart) <= 8 and "row 3" in chart and "row 9" in chart for chart in charts)
    assert set().union(*charts) == set(series)
    assert sum(map(len, charts)) == 20 + 2 * (len(charts) - 1)
    assert legible(dict(list(series.items())[:8]), ["row 3"]) == [dict(list(series.items())[:8])]
