"""The table of a run while its jobs run."""

from pathlib import Path

import pytest
from recipes import content

from ppflow.cli.experiment import live_table
from ppflow.jobs import Outcomes, StageResult, expand
from ppflow.recipe import parse_recipe


def show(tmp_path: Path) -> None:
    """A run of two seeds: both accuracies of the first row, then one of the second row."""
    graph = expand(parse_recipe(content(), "r"), tmp_path)
    outcomes = Outcomes()
    first, second, *_ = graph.rows.values()
    with live_table(graph) as show_line:
        for digest, accuracy in ((first[0], 0.5), (first[1], 0.75), (second[1], 0.9)):
            outcomes.done[digest] = StageResult(accuracy=accuracy)
            show_line(outcomes, f"done {accuracy}")


@pytest.mark.parametrize("dumb_terminal", [False, True])
def test_a_full_row_is_a_line_where_nobody_can_redraw(
    dumb_terminal: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if dumb_terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "dumb")
    show(tmp_path)
    shown = capsys.readouterr()
    row = next(iter(expand(parse_recipe(content(), "r"), tmp_path).rows))[1]
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "done 0.5",
        "done 0.75",
        f"    {row}: 62.5 ± 17.7 (2 seeds)",
        "done 0.9",
    ]


def test_a_terminal_shows_every_figure_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    show(tmp_path)
    shown = capsys.readouterr().err
    assert "seed 0" in shown
    assert "90.0 (1 seed)" in shown
    assert "62.5 ± 17.7 (2 seeds)" in shown
    assert shown.rindex("done 0.9") < shown.rindex("90.0 (1 seed)")  # the table stays below the log
