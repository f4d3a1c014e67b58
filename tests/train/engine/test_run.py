"""Whole runs: the test set untouched, the weights chosen by validation, what is left when the loss explodes."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from toyshards import CLASSES
from trainruns import Settings, run, same_weights

from ppcore.classifiers import load_classifier, usual_input
from ppcore.errors import UserError
from ppcore.targets import Target, load_target, stack
from pptrain.config import TrainConfig, load_config
from pptrain.engine.loop import fit


class SpyTarget:
    """A target whose test images can only be counted until they may be looked at."""

    def __init__(self, target: Target) -> None:
        self._target, self.open, self.looks = target, False, 0
        self.name, self.classes, self.train = target.name, target.classes, target.train
        self.notes = self.doubts = ()

    @property
    def test(self) -> Any:
        if not self.open:
            return replace(self._target.test, load=None, encoded=None)  # only counted
        self.looks += 1
        return self._target.test


def test_test_images_are_touched_once_after_training(
    supervised: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = SpyTarget(load_target(supervised["data.target"]))

    def fit_and_open(*args: Any, **options: Any) -> None:
        fit(*args, **options)
        spy.open = True

    monkeypatch.setattr("pptrain.engine.inputs.load_target", lambda spec: spy)
    monkeypatch.setattr("pptrain.engine.run.fit", fit_and_open)
    settings = {**supervised, "data.labels_per_class": 0, "data.val_fraction": 0.25, "loop.eval_every": 3}
    settings |= {"data.unlabeled": f"target:{supervised['data.target']}", "method.name": "uda"}
    run(settings, out=str(tmp_path / "r"))
    assert spy.looks == 1


def test_validation_chooses_the_weights(supervised: Settings, tmp_path: Path) -> None:
    settings = {**supervised, "data.labels_per_class": 0, "data.val_fraction": 0.25, "loop.eval_every": 2}
    result = run(settings, out=str(tmp_path / "r"), **{"optim.lr": 0.5, "loop.ema": 0.0})
    rows = list(csv.DictReader((tmp_path / "r" / "metrics.csv").open()))
    scores = {int(r["step"]): float(r["val_accuracy"]) for r in rows if r["val_accuracy"]}
    assert result.val_accuracy == pytest.approx(max(scores.values()), abs=1e-4)
    assert scores[result.details["chosen_step"]] == max(scores.values())


def test_early_stop(supervised: Settings, tmp_path: Path) -> None:
    settings = {**supervised, "data.labels_per_class": 0, "data.val_fraction": 0.25, "loop.eval_every": 1}
    result = run(
        settings, out=str(tmp_path / "r"), **{"optim.lr": 1e-12, "loop.patience": 3, "loop.ema": 0.0}
    )
    assert result.steps < 12


def test_few_labels_have_no_validation_by_default(supervised: Settings, tmp_path: Path) -> None:
    result = run(supervised, out=str(tmp_path / "r"))
    assert result.val_accuracy is None
    assert result.details["settings"]["data"]["val_fraction"] == 0.0
    assert result.details["chosen_step"] == 12


def test_nan_loss_stops_with_step_keys_and_checkpoint(
    uda: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        **uda,
        "model.arch": "explodingnet:build",
        "loop.checkpoint_every": 3,
        "out": str(tmp_path / "r"),
    }
    with pytest.raises(UserError) as caught:
        run(settings)
    text = str(caught.value)
    assert "not a number at step 8" in text
    assert "train/" in text  # a labelled image's name
    assert "000000.tar:" in text or "000001.tar:" in text or "000002.tar:" in text  # an unlabelled sample's
    assert str(tmp_path / "r" / "checkpoint" / "last.pt") in text
    state = torch.load(tmp_path / "r" / "checkpoint" / "last.pt", weights_only=True)
    assert state["step"] == 6
    assert all(torch.isfinite(t).all() for t in state["model"].values())


def test_pre_training_then_fine_tuning_replaces_the_head(
    pretraining: Settings, supervised: Settings, tmp_path: Path
) -> None:
    settings = {**pretraining, "data.resident_mb": 100}
    pp = run(settings, out=str(tmp_path / "pp"), **{"optim.steps": 60})
    assert pp.accuracy is None
    assert load_classifier(str(pp.out)).spec.class_names == CLASSES
    tuned = run(supervised, out=str(tmp_path / "t"), **{"model.init": str(pp.out)})
    scratch = run(supervised, out=str(tmp_path / "s"))
    assert tuned.accuracy is not None
    assert not same_weights(tuned.out, scratch.out)


def test_distillation_from_a_fine_tuned_teacher(supervised: Settings, tmp_path: Path) -> None:
    teacher = run(supervised, out=str(tmp_path / "teacher"))
    for method in ("soft-target", "logit-matching"):
        settings = {**supervised, "method.name": method, "model.teacher": str(teacher.out)}
        assert run(settings, out=str(tmp_path / method)).accuracy is not None


def test_result_names_what_it_came_from(uda: Settings, tmp_path: Path) -> None:
    result = run(uda, out=str(tmp_path / "r"))
    details = json.loads((tmp_path / "r" / "result.json").read_text())
    assert details["accuracy"] == result.accuracy
    assert details["test"]["images"] == 24
    assert "confusion" not in details["test"]  # a million lines at 1,000 classes
    assert details["data"]["unlabeled"] == ["pseudo-24"]
    assert details["data"]["target"]["labeled_images"] == 12
    assert details["steps"] == 12
    classifier = load_classifier(str(tmp_path / "r" / "model"))
    assert classifier.spec.class_names == CLASSES
    assert isinstance(load_config(str(tmp_path / "r" / "config.yaml")), TrainConfig)


def test_a_target_too_large_for_memory_trains_to_the_same_weights(
    supervised: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**supervised, "data.labels_per_class": 0, "data.val_fraction": 0.25, "loop.eval_every": 3}
    settings |= {"data.unlabeled": f"target:{supervised['data.target']}", "method.name": "uda"}
    whole = run(settings, out=str(tmp_path / "whole"))
    monkeypatch.setattr("pptrain.engine.prepare.stack", None)  # nothing is decoded as a whole
    parts = run(settings, out=str(tmp_path / "parts"), **{"data.resident_mb": 0})
    assert same_weights(whole.out, parts.out)
    assert whole.val_accuracy == parts.val_accuracy


def test_running_statistics_follow_a_short_run(supervised: Settings, tmp_path: Path) -> None:
    settings = {**supervised, "model.arch": "oddnet:slow", "views.labeled": "none", "optim.steps": 40}
    run(settings, out=str(tmp_path / "r"))
    stored = load_file(tmp_path / "r" / "model" / "model.safetensors")
    usual = usual_input("oddnet:slow", 1)
    mean, std = usual.mean, usual.std
    images = (stack(load_target(supervised["data.target"]).train, 16, 1) / 255.0 - mean[0]) / std[0]
    assert stored["0.running_mean"].item() == pytest.approx(images.mean().item(), rel=0.2)
    assert stored["0.running_var"].item() == pytest.approx(images.var().item(), rel=0.2)
