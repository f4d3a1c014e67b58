"""Statistics over seeds and images, and the tables that show them."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from ppcore.errors import UserError
from ppflow.report.measured import charts
from ppflow.statistics import (
    FORMATS,
    Result,
    Results,
    as_text,
    image_interval,
    make_table,
    read_results,
    results_csv,
)
from ppflow.statistics.comparisons import Row, holm

VALUES = {"Scratch": [80.0, 82.0, 84.0], "PP": [90.0, 91.0, 83.0]}


def results(values=VALUES, compare=("Scratch",), group=""):
    entries = [Result(group, row, seed, v) for row, line in values.items() for seed, v in enumerate(line)]
    return Results(tuple(entries), compare)


def test_paired_differences():
    scratch, pp = make_table(results()).groups[""]
    assert scratch.differences == {}
    delta = pp.differences["Scratch"]
    assert (pp.mean, scratch.mean) == (88.0, 82.0)
    assert (delta.mean, delta.wins, delta.seeds) == (6.0, 2, 3)
    assert delta.std == pytest.approx(6.0828, abs=1e-4)  # of 10, 9, -1
    assert delta.interval == pytest.approx((6 - 15.1103, 6 + 15.1103), abs=1e-3)  # t(2) = 4.3027
    assert delta.p == pytest.approx(stats.ttest_rel(VALUES["PP"], VALUES["Scratch"]).pvalue)
    assert scratch.std == 2.0


def test_rows_are_paired_over_the_seeds_that_both_have():
    entries = (*results().entries[1:], Result("", "Late", 5, 70.0))
    scratch, pp, late = make_table(Results(entries, ("Scratch",))).groups[""]
    assert scratch.seeds == (1, 2)
    assert pp.differences["Scratch"].seeds == 2
    assert late.differences == {}
    text = as_text(make_table(Results(entries, ("Scratch",))))
    assert "83.0 ± 1.4 (seeds 1-2 only)" in text
    assert "4 seeds (0-2, 5)" in text


def test_holm_steps_down_and_leaves_out_what_has_no_p():
    assert holm([0.01, 0.04, math.nan, 0.03]) == pytest.approx([0.03, 0.06, math.nan, 0.06], nan_ok=True)
    assert holm([0.5, 0.9]) == [1.0, 1.0]


def test_a_difference_is_sure_only_among_all_of_its_column():
    alone = results({"a": [1.0, 2.0, 3.0], "b": [11.0, 14.0, 12.0]}, ("a",))
    assert make_table(alone).groups[""][1].differences["a"].significant
    assert "* (3/3)" in as_text(make_table(alone))
    noise = {f"n{i}": [1.0, 2.0 + i, 2.5] for i in range(300)}
    crowd = results({"a": [1.0, 2.0, 3.0], "b": [11.0, 14.0, 12.0], **noise}, ("a",))
    assert not make_table(crowd).groups[""][1].differences["a"].significant


def test_the_bootstrap_over_images_is_that_of_the_images():
    rng = np.random.default_rng(1)
    a, b = ({s: rng.random(400) < share for s in range(3)} for share in (0.8, 0.7))
    low, high = image_interval(a, b)
    deltas = 100 * (np.mean([a[s] for s in a], 0) - np.mean([b[s] for s in b], 0))
    reference = stats.bootstrap((deltas,), np.mean, method="percentile", rng=rng, n_resamples=4000)
    assert (low, high) == pytest.approx(tuple(reference.confidence_interval), abs=0.4)
    assert low < deltas.mean() < high
    assert image_interval(a, {0: np.ones(3, bool)}) is None
    assert image_interval(a, {}) is None


def test_a_result_without_its_seeds_cannot_be_shown(tmp_path):
    with pytest.raises(ValueError, match="without its seeds"):
        Row("a", {})
    (tmp_path / "r.csv").write_text("row,accuracy\na,3\n")
    with pytest.raises(UserError, match="no column seed"):
        read_results(tmp_path / "r.csv")
    for form in FORMATS:
        output = FORMATS[form](make_table(results()))
        assert "0-2" in output or json.loads(output)["rows"][0]["seeds"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("row,seed,accuracy\na,0,nan\n", "line 2 is not a result"),
        ("row,seed,accuracy\na,x,3\n", "line 2 is not a result"),
        ("row,seed,accuracy\na,0\n", "line 2 is not a result"),
        ("row,seed,accuracy\na,0,3\na,0,4\n", "two results of 'a' with seed 0"),
        ("", "no column row"),
    ],
)
def test_tables_that_are_none(tmp_path, text, message):
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_results(tmp_path / "r.csv")


def test_the_small_csv_prints_the_same_table_again(tmp_path):
    both = Results(
        (
            *results(group="labels 2").entries,
            *results({"Scratch": [1.0], "PP": [3.5]}, group="labels 5").entries,
        ),
        ("Scratch",),
    )
    (tmp_path / "r.csv").write_text(results_csv(both))
    again = read_results(tmp_path / "r.csv")
    assert again == both
    assert as_text(make_table(again)) == as_text(make_table(both))
    old = "row,seed,accuracy\nScratch,0,80.0\nPP,0,90.0\n"
    (tmp_path / "r.csv").write_text(old)
    assert "+10.0 (1/1)" in as_text(make_table(read_results(tmp_path / "r.csv"), compare=["Scratch"]))


def test_text():
    text = as_text(make_table(results()))
    assert "| PP      | 88.0 ± 4.4 | +6.0 [-9.1, +21.1] (2/3) |" in text
    assert len({len(line) for line in text.splitlines()[:4]}) == 1
    assert as_text(make_table(results(group="labels 2"))).startswith("labels 2:\n\n|")


def test_latex_and_csv():
    tabular = FORMATS["latex"](make_table(results({"A & B": [1.0, 2.0], "50 %": [2.0, 3.0]}, ("A & B",))))
    assert r"A \& B & 1.5 $\pm$ 0.7 &  \\" in tabular
    assert r"50 \%" in tabular
    lines = FORMATS["csv"](make_table(results())).splitlines()
    assert lines[0].startswith("group,row,mean,std,seeds,versus,difference_mean,difference_low")
    assert lines[2].startswith(",PP,88.0,")


def test_one_seed_has_no_deviation():
    table = make_table(results({"a": [1.0], "b": [3.0]}, ("a",)))
    assert table.groups[""][0].std == 0.0
    assert not table.groups[""][1].differences["a"].significant
    text = as_text(table)
    assert "+2.0 (1/1)" in text
    assert "±" not in text
    assert "1 seed (0)" in text


def test_rows_to_compare_with_must_be_there():
    with pytest.raises(UserError, match="no row 'Nosuch'"):
        make_table(results(), compare=["Nosuch"])


def test_many_curves_are_spread_over_charts():
    series = {f"row {n}": [(0.0, n), (1.0, n)] for n in range(20)}
    spread = charts(series, ["row 3", "row 9"])
    assert all(len(chart) <= 8 and "row 3" in chart and "row 9" in chart for chart in spread)
    assert set().union(*spread) == set(series)
    assert sum(map(len, spread)) == 20 + 2 * (len(spread) - 1)
    assert charts(dict(list(series.items())[:8]), ["row 3"]) == [dict(list(series.items())[:8])]
