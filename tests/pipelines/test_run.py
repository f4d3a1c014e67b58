"""A whole experiment, small: generation, training, table, report, and the second run that finds everything done."""

import csv
import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

RECIPE = """
title: Small & quick
seeds: [0, 1]
generate:
  letters: {kind: synth, source: letters, classes: "A-D,O,S", per_class: 4, batch_size: 8}
  similar: {kind: pseudo, source: letters, target: digits, labels_per_class: 1, per_image: 1, per_seed: true, batch_size: 8}
defaults: {data.target: digits, data.labels_per_class: 1, data.monitor: 20, optim.steps: 2, optim.batch_size: 8,
           loop.log_every: 1, loop.eval_every: 1, loop.tensorboard: false}
train:
  pretrain: {data.target: "", data.labels_per_class: 0, data.monitor: 0, data.shards: [letters]}
  scratch: {}
  both: {method.name: uda, data.unlabeled: [similar], model.init: pretrain}
rows: {Scratch: scratch, PP + P-SSL: both}
compare: [Scratch]
notes: [A note.]
"""


def ppflow(*arguments):
    command = [sys.executable, "-m", "ppflow", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("flow")
    (root / "small.yaml").write_text(RECIPE.replace('"A-D,O,S"', '"0-3,14,18"'))
    done = ppflow("run", root / "small.yaml", "--out", root / "out", "--workers", 2)
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


def test_report_is_self_contained_and_shows_everything(finished):
    page = (finished[0] / "out/report.html").read_text()
    assert "Small &amp; quick" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert (
        page.count("data:image/png;base64,") == 6 + 2 * 10
    )  # classes; a target image and its samples a digit
    assert page.count("<svg") == 3  # dots, monitored accuracy, loss


def test_second_run_repeats_nothing(finished):
    root, done = finished
    again = ppflow("run", root / "small.yaml", "--out", root / "out", "--workers", 1)
    assert again.returncode == 0, again.stderr
    assert again.stdout == done.stdout
    assert again.stderr.count("(found done)") == 9


def test_a_refused_job_is_one_sentence(finished):
    root, _ = finished
    (root / "bad.yaml").write_text((root / "small.yaml").read_text().replace("per_class: 4", "per_class: 0"))
    done = ppflow("run", root / "bad.yaml", "--out", root / "bad", "--workers", 1)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: letters: --per-class is 0")
    assert "Traceback" not in done.stderr


def test_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("")
    done = ppflow("run", "demo", "--out", tmp_path / "file" / "out")
    assert done.returncode == 2
    assert "choose another --out" in done.stderr
