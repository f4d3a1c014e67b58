"""Runs that were interrupted, repeated or finished before: bit for bit the same."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from trainruns import Settings, run, run_until_killed, same_weights

from ppcore.classifiers import load_classifier
from ppcore.errors import UserError
from ppcore.targets import load_target
from ppcore.trust import Trust
from pptrain.config import load_config
from pptrain.engine import train
from pptrain.evaluation import evaluate, export_model


@pytest.mark.parametrize("kind", ["supervised", "uda", "pretraining", "mean-teacher", "accumulate", "mixup"])
def test_killed_and_resumed_equals_uninterrupted(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = {"mean-teacher": "uda", "accumulate": "uda", "mixup": "supervised"}.get(kind, kind)
    settings = dict(request.getfixturevalue(base))
    if kind == "mean-teacher":
        settings |= {"method.name": kind}
    if kind == "accumulate":
        settings |= {"optim.accumulate": 2, "data.resident_mb": 0, "optim.name": "sgd", "optim.clip": 0.5}
    if kind == "mixup":
        settings |= {"method.options": {"mixup": 0.4}, "data.val_fraction": 0.3, "loop.eval_every": 2}
    settings |= {"loop.checkpoint_every": 3}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(settings, out=str(whole))
    run_until_killed({**settings, "out": str(cut)}, 7, monkeypatch)
    assert (cut / "checkpoint" / "last.pt").exists()
    assert not (cut / "result.json").exists()
    result = run(settings, out=str(cut))
    assert same_weights(whole, cut)
    assert not (cut / "checkpoint").exists()
    rows = [list(csv.DictReader((run / "metrics.csv").open())) for run in (whole, cut)]
    assert [r["step"] for r in rows[0]] == [r["step"] for r in rows[1]]
    assert [r["loss"] for r in rows[0]][-1] == [r["loss"] for r in rows[1]][-1]
    assert result.steps == 12


@pytest.mark.parametrize("left", ["", "step,epo"])
def test_a_broken_metrics_file_does_not_keep_a_run_from_resuming(
    left: str, supervised: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "r"
    settings = {**supervised, "loop.checkpoint_every": 3, "out": str(out)}
    run_until_killed(settings, 7, monkeypatch)
    (out / "metrics.csv").write_text(left)
    run(settings)
    rows = list(csv.DictReader((out / "metrics.csv").open()))
    assert [row["step"] for row in rows] == ["8", "12"]
    assert float(rows[-1]["loss"]) > 0


def test_seed_decides_everything(uda: Settings, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(uda, out=str(tmp_path / name), seed=seed)
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert not same_weights(tmp_path / "a", tmp_path / "c")


def test_finished_run_is_reported_and_other_settings_are_refused(
    supervised: Settings, tmp_path: Path
) -> None:
    first = run(supervised, out=str(tmp_path / "r"))
    again = run(supervised, out=str(tmp_path / "r"))
    assert first.fresh
    assert not again.fresh
    assert again.accuracy == first.accuracy
    assert again.details == first.details
    with pytest.raises(UserError, match=r"optim.lr 0.002 -> 0.01"):
        run(supervised, out=str(tmp_path / "r"), **{"optim.lr": 0.01})
    rerun = train(load_config(str(tmp_path / "r" / "config.yaml"), {"out": str(tmp_path / "r2")}), quiet=True)
    assert same_weights(tmp_path / "r", rerun.out)
    (tmp_path / "r" / "result.json").write_text('{"steps": "many"}')
    with pytest.raises(UserError, match=r"result.json is damaged .*; delete it"):
        run(supervised, out=str(tmp_path / "r"))
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="does not hold a run of pptrain"):
        run(supervised, out=str(tmp_path / "foreign"))


@pytest.mark.parametrize("method", ["supervised", "mean-teacher"])
def test_tied_and_versioned_weights_are_resumed_and_opened_again(
    method: str, uda: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**uda, "method.name": method, "model.arch": "strictnet:build", "loop.checkpoint_every": 3}
    settings |= {"data.labels_per_class": 0, "data.val_fraction": 0.3, "loop.eval_every": 2}
    if method == "supervised":
        settings |= {"data.unlabeled": [], "method.options": {}}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    result = run(settings, out=str(whole))
    run_until_killed({**settings, "out": str(cut)}, 7, monkeypatch)
    run(settings, out=str(cut))
    assert same_weights(whole, cut)
    classifier = load_classifier(str(whole), trust=Trust(True))
    assert evaluate(classifier, load_target(str(settings["data.target"])).test).accuracy == result.accuracy
    tuned = run({**settings, "model.init": str(whole)}, out=str(tmp_path / "tuned"))
    assert tuned.steps == result.steps
    exported = export_model(str(whole), str(tmp_path / "m.pt2"), to="torch-export", trust_code=True)
    assert exported.difference == pytest.approx(0, abs=1e-5)
