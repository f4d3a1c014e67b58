"""A small experiment from start to end: generation, training, table, report, a second run with nothing left to do, and failures."""

import csv
import json
import re

import pytest
from inplace import ppflow
from recipes import SMALL

pytestmark = pytest.mark.slow


def stages(out):
    """Stage and seed -> when its result was written."""
    records = [(json.loads(path.read_text()), path) for path in (out / "stages").glob("*.json")]
    return {(r["stage"], r["seed"], path.name): path.stat().st_mtime_ns for r, path in records}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("flow")
    (root / "small.yaml").write_text(SMALL)
    done = ppflow("run", root / "small.yaml", "--out", root / "out", "--jobs", 2)
    assert done.returncode == 0, done.stderr
    return root, done


def test_prints_the_table_and_writes_results(finished):
    root, done = finished
    assert "| PP + P-SSL" in done.stdout
    assert "A note." in done.stdout
    with (root / "out/results.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert {(row["row"], row["seed"]) for row in rows} == {
        (r, s) for r in ("Scratch", "PP + P-SSL") for s in "01"
    }
    assert all(0 <= float(row["accuracy"]) <= 100 for row in rows)
    assert {row["images"] for row in rows} == {"900"}


def test_report_is_self_contained_and_shows_everything(finished):
    page = (finished[0] / "out/report.html").read_text()
    assert "Small &amp; quick" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)


def test_second_run_repeats_nothing(finished):
    root, done = finished
    before = stages(root / "out")
    again = ppflow("run", root / "small.yaml", "--out", root / "out")
    assert again.returncode == 0, again.stderr
    assert "| PP + P-SSL" in again.stdout
    assert done.stdout.endswith(again.stdout)  # in one process, what the stages printed stands before it
    assert "9 jobs, 9 of them done; nothing is left to do" in again.stderr
    assert stages(root / "out") == before


def test_the_table_is_printed_again_from_the_directory_and_from_its_csv(finished):
    root, done = finished
    for run in (root / "out", root / "out/results.csv"):
        printed = ppflow("table", run)
        assert printed.stdout.strip() in done.stdout
    assert r"\begin{tabular}" in ppflow("table", root / "out", "--format", "latex").stdout
    found = json.loads(ppflow("table", root / "out", "--format", "json").stdout)
    low, high = (found["rows"][1]["differences"]["Scratch"][f"images_{end}"] for end in ("low", "high"))
    assert low <= found["rows"][1]["differences"]["Scratch"]["mean"] <= high
    assert ppflow("table", root / "out", "--format", "word").returncode == 2


def test_one_parameter_of_p_ssl_reruns_p_ssl_table_and_report_alone(finished):
    root, _ = finished
    before = stages(root / "out")
    done = ppflow("run", root / "small.yaml", "--out", root / "out", "--param", "mu=3")
    assert "9 jobs, 7 of them done" in done.stderr
    after = stages(root / "out")
    assert {key: after[key] for key in before} == before
    assert {key[:2] for key in after.keys() - before.keys()} == {("both", 0), ("both", 1)}
    assert "mu=3" in (root / "out/report.html").read_text()


def test_one_row_runs_alone_and_two_runs_are_compared(finished):
    root, _ = finished
    done = ppflow("run", root / "small.yaml", "--out", root / "one", "--rows", "Scr*", "--seeds", 1)
    assert done.returncode == 0, done.stderr
    assert "Small & quick: 1 jobs" in done.stderr
    assert "PP + P-SSL" not in done.stdout
    output = ppflow("compare", root / "out", root / "one").stdout
    assert "Scratch:" in output
    assert re.search(r"\| one +\| \d+\.\d \(seeds 0 only\) \| \+0\.0 \(0/1\)", output)


def test_a_failure_stops_only_what_depends_on_it(finished):
    root, _ = finished
    broken = SMALL.replace("method.options: {mu: $mu}", "method.options: {mu: 1, nosuch: 1}")
    (root / "bad.yaml").write_text(broken)
    done = ppflow("run", root / "bad.yaml", "--out", root / "out")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "error: both (seed 0): " in done.stderr
    assert "2 jobs failed and 0 jobs that need them were skipped; incomplete rows: PP + P-SSL" in done.stderr
    assert "| Scratch" in done.stdout
    assert "| PP + P-SSL" not in done.stdout
    early = SMALL.replace('classes: "0-3,14,18"', 'classes: "99"')
    (root / "early.yaml").write_text(early)
    done = ppflow("run", root / "early.yaml", "--out", root / "out")
    assert done.returncode == 2
    assert "error: letters: " in done.stderr
    assert "1 jobs failed and 4 jobs that need them were skipped" in done.stderr


def test_a_request_that_no_run_could_have_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "bad.yaml").write_text(SMALL.replace("optim.steps", "optim.stepz"))
    done = ppflow("run", tmp_path / "bad.yaml", "--out", tmp_path / "bad")
    assert done.returncode == 2
    assert "(seed 0): unknown setting 'optim.stepz'" in done.stderr.splitlines()[-1]
    (tmp_path / "bad.yaml").write_text(SMALL.replace("per_class: 4", "per_class: 0"))
    done = ppflow("run", tmp_path / "bad.yaml", "--out", tmp_path / "bad")
    assert done.stderr.splitlines()[-1].startswith("error: letters: --per-class is 0")
    assert not (tmp_path / "bad/stages").exists()


def test_the_demo_runs_to_its_end(tmp_path):
    done = ppflow("run", "demo", "--scale", "tiny", "--seeds", 1, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "| PP + P-SSL, uniform (control)" in done.stdout
    assert (tmp_path / "report.html").exists()


def test_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("")
    done = ppflow("run", "demo", "--out", tmp_path / "file" / "out")
    assert done.returncode == 2
    assert "choose another --out" in done.stderr
