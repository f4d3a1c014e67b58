"""Whole runs: resume bit for bit, the test set untouched, done once, refusals that write nothing."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from toyshards import CLASSES, ShardWriter

from ppcore.classifiers import ClassifierSpec, build, load_classifier, save_classifier
from ppcore.errors import UserError
from ppcore.targets import Target, load_target
from pptrain.config import TrainConfig, load_config
from pptrain.engine import task as task_module
from pptrain.engine.loop import Trainer
from pptrain.engine.run import Result, train

Settings = dict[str, Any]


def go(settings: Settings, **more: object) -> Result:
    return train(load_config(overrides={**settings, **more}), quiet=True)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def same(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return all(torch.equal(first[name], second[name]) for name in first)


class Killed(BaseException):
    pass


def interrupted(settings: Settings, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run and die after `at` steps."""
    real = Trainer._one_step

    def step(self: Trainer, *args: Any) -> float:
        if self.step == at:
            raise Killed
        return real(self, *args)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Trainer, "_one_step", step)
        go(settings)


@pytest.fixture
def supervised(target_folder: Path, tiny: Settings) -> Settings:
    return {**tiny, "data.target": str(target_folder), "data.labels_per_class": 3}


@pytest.fixture
def uda(supervised: Settings, write_shards: ShardWriter) -> Settings:
    root = write_shards("pseudo", [9, 4, 11], kind="pseudo")
    return {**supervised, "data.unlabeled": str(root), "method.name": "uda", "method.options": {"mu": 2.0}}


@pytest.fixture
def pretraining(write_shards: ShardWriter, tiny: Settings) -> Settings:
    root = write_shards("synth", [9, 4, 11, 8])
    return {**tiny, "data.shards": str(root), "data.resident_mb": 0, "data.workers": 2}


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
    go(settings, out=str(whole))
    interrupted({**settings, "out": str(cut)}, 7, monkeypatch)
    assert (cut / "checkpoint" / "last.pt").exists()
    assert not (cut / "result.json").exists()
    result = go(settings, out=str(cut))
    assert same(whole, cut)
    assert not (cut / "checkpoint").exists()
    rows = [list(csv.DictReader((run / "metrics.csv").open())) for run in (whole, cut)]
    assert [r["step"] for r in rows[0]] == [r["step"] for r in rows[1]]
    assert [r["loss"] for r in rows[0]][-1] == [r["loss"] for r in rows[1]][-1]
    assert result.steps == 12


def test_seed_decides_everything(uda: Settings, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        go(uda, out=str(tmp_path / name), seed=seed)
    assert same(tmp_path / "a", tmp_path / "b")
    assert not same(tmp_path / "a", tmp_path / "c")


def test_finished_run_is_reported_and_other_settings_are_refused(
    supervised: Settings, tmp_path: Path
) -> None:
    first = go(supervised, out=str(tmp_path / "r"))
    again = go(supervised, out=str(tmp_path / "r"))
    assert first.fresh
    assert not again.fresh
    assert again.accuracy == first.accuracy
    assert again.details == first.details
    with pytest.raises(UserError, match=r"optim.lr 0.002 -> 0.01"):
        go(supervised, out=str(tmp_path / "r"), **{"optim.lr": 0.01})
    rerun = train(load_config(str(tmp_path / "r" / "config.yaml"), {"out": str(tmp_path / "r2")}), quiet=True)
    assert same(tmp_path / "r", rerun.out)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="no run of pptrain"):
        go(supervised, out=str(tmp_path / "foreign"))


class SpyTarget:
    """A target whose test images raise until they may be looked at."""

    def __init__(self, target: Target) -> None:
        self._target, self.open, self.looks = target, False, 0
        self.name, self.classes, self.train = target.name, target.classes, target.train

    @property
    def test(self) -> Any:
        assert self.open, "the test images were touched before the end of training"
        self.looks += 1
        return self._target.test


def test_test_images_are_touched_once_after_training(
    supervised: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = SpyTarget(load_target(supervised["data.target"]))
    real = Trainer.fit

    def fit(self: Trainer, *args: Any, **options: Any) -> None:
        real(self, *args, **options)
        spy.open = True

    monkeypatch.setattr(task_module, "load_target", lambda spec: spy)
    monkeypatch.setattr(Trainer, "fit", fit)
    settings = {**supervised, "data.labels_per_class": 0, "data.val_fraction": 0.25, "loop.eval_every": 3}
    settings |= {"data.unlabeled": f"target:{supervised['data.target']}", "method.name": "uda"}
    go(settings, out=str(tmp_path / "r"))
    assert spy.looks == 1


def test_training_validation_and_test_images_are_disjoint(supervised: Settings, tmp_path: Path) -> None:
    from pptrain.engine.ranks import Ranks

    settings = {**supervised, "data.labels_per_class": 8, "data.val_fraction": 0.25, "out": str(tmp_path)}
    settings |= {"data.unlabeled": f"target:{supervised['data.target']}", "method.name": "uda"}
    task = task_module.open_task(load_config(overrides=settings), Ranks("cpu"))
    target = load_target(supervised["data.target"])
    train_ids = set(task.labeled.keys)  # type: ignore[attr-defined]
    real_ids = set(task.unlabeled.keys)  # type: ignore[union-attr]
    val_ids, test_ids = set(task.val.ids), set(target.test.ids)  # type: ignore[union-attr]
    assert (len(train_ids), len(val_ids)) == (24, 8)
    assert not train_ids & val_ids
    assert not real_ids & val_ids
    assert not test_ids & (train_ids | val_ids | real_ids)
    assert len(real_ids) == len(target.train) - 8
    assert (task.unlabeled.labels == -1).all()  # type: ignore[union-attr]


def test_validation_chooses_the_weights(supervised: Settings, tmp_path: Path) -> None:
    settings = {**supervised, "data.labels_per_class": 0, "data.val_fraction": 0.25, "loop.eval_every": 2}
    result = go(settings, out=str(tmp_path / "r"), **{"optim.lr": 0.5, "loop.ema": 0.0})
    rows = list(csv.DictReader((tmp_path / "r" / "metrics.csv").open()))
    scores = {int(r["step"]): float(r["val_accuracy"]) for r in rows if r["val_accuracy"]}
    assert result.val_accuracy == pytest.approx(max(scores.values()), abs=1e-4)
    assert scores[result.details["chosen_step"]] == max(scores.values())


def test_early_stop(supervised: Settings, tmp_path: Path) -> None:
    settings = {**supervised, "data.labels_per_class": 0, "data.val_fraction": 0.25, "loop.eval_every": 1}
    result = go(settings, out=str(tmp_path / "r"), **{"optim.lr": 1e-12, "loop.patience": 3, "loop.ema": 0.0})
    assert result.steps < 12


def test_few_labels_have_no_validation_by_default(supervised: Settings, tmp_path: Path) -> None:
    result = go(supervised, out=str(tmp_path / "r"))
    assert result.val_accuracy is None
    assert result.details["settings"]["data"]["val_fraction"] == 0.0
    assert result.details["chosen_step"] == 12


class Exploding(nn.Module):
    """Its logits become infinite once its weights have moved."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(in_channels * 16 * 16, num_classes)
        self.steps = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += self.training
        return self.fc(x.flatten(1)) * (float("nan") if self.steps > 8 else 1.0)


def exploding(num_classes: int, in_channels: int) -> nn.Module:
    return Exploding(num_classes, in_channels)


def test_nan_loss_stops_with_step_keys_and_checkpoint(
    uda: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        **uda,
        "model.arch": "test_run:exploding",
        "loop.checkpoint_every": 3,
        "out": str(tmp_path / "r"),
    }
    with pytest.raises(UserError) as caught:
        go(settings)
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
    pp = go(settings, out=str(tmp_path / "pp"), **{"optim.steps": 60})
    assert pp.accuracy is None
    assert load_classifier(str(pp.out)).spec.class_names == CLASSES
    tuned = go(supervised, out=str(tmp_path / "t"), **{"model.init": str(pp.out)})
    scratch = go(supervised, out=str(tmp_path / "s"))
    assert tuned.accuracy is not None
    assert not same(tuned.out, scratch.out)


def test_init_copies_the_backbone(supervised: Settings, tmp_path: Path) -> None:
    from pptrain.engine.ranks import Ranks

    spec = ClassifierSpec("small", ("x", "y", "z"), 1, 16)
    source = build("small", 3, 1)
    save_classifier(tmp_path / "m", source, spec)
    config = load_config(overrides={**supervised, "model.init": str(tmp_path / "m"), "out": "x"})
    net = task_module.open_task(config, Ranks("cpu")).net
    for name, tensor in source.state_dict().items():
        if not name.startswith("fc."):
            assert torch.equal(tensor, net.state_dict()[name])
    assert net.state_dict()["fc.weight"].shape[0] == len(CLASSES)


def test_distillation_from_a_fine_tuned_teacher(supervised: Settings, tmp_path: Path) -> None:
    teacher = go(supervised, out=str(tmp_path / "teacher"))
    for method in ("soft-target", "logit-matching"):
        settings = {**supervised, "method.name": method, "model.teacher": str(teacher.out)}
        assert go(settings, out=str(tmp_path / method)).accuracy is not None


def bad(config: Settings, message: str, out: Path) -> None:
    with pytest.raises(UserError, match=message) as caught:
        go(config, out=str(out))
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_bad_input_is_one_sentence_and_writes_nothing(
    supervised: Settings, uda: Settings, pretraining: Settings, write_shards: ShardWriter, tmp_path: Path
) -> None:
    out = tmp_path / "r"
    pseudo, synth = uda["data.unlabeled"], pretraining["data.shards"]
    bad({**supervised, "model.arch": "resnet1"}, "unknown architecture", out)
    bad({**supervised, "method.name": "udda"}, "unknown method 'udda'; did you mean 'uda'", out)
    bad({**supervised, "data.target": "nowhere"}, "unknown target", out)
    bad({**pretraining, "data.shards": pseudo}, "pseudo samples where synth samples", out)
    bad({**uda, "data.unlabeled": synth}, "synth samples where pseudo samples", out)
    bad({**pretraining, "data.workers": 5}, "4 shards for 5 workers", out)
    bad({**supervised, "data.shards": synth}, "both --shards and --target", out)
    bad({**supervised, "data.unlabeled": pseudo}, "add --method uda", out)
    bad({**supervised, "method.name": "uda"}, "needs unlabelled images", out)
    bad({**supervised, "method.name": "soft-target"}, "needs a teacher", out)
    bad({**supervised, "model.init": str(tmp_path)}, "no model directory", out)
    bad({**supervised, "data.labels_per_class": 13}, "lower --labels-per-class", out)
    bad({**supervised, "loop.device": "cuda:99"}, "cuda", out)
    bad({**supervised, "optim.lr": -1}, "optim.lr", out)
    bad({}, "no training data", out)
    colour = write_shards("colour", [5], kind="pseudo", channels=3)
    bad({**uda, "data.unlabeled": str(colour), "data.channels": 1}, "RGB images but the model takes 1", out)


def test_weights_that_do_not_fit(supervised: Settings, tmp_path: Path) -> None:
    out, model = tmp_path / "r", tmp_path / "m"
    save_classifier(model, build("small", 4, 1), ClassifierSpec("small", CLASSES, 1, 16))
    state = load_file(model / "model.safetensors")
    del state["stem.0.weight"]
    from safetensors.torch import save_file

    save_file(state, model / "model.safetensors")
    bad({**supervised, "model.init": str(model)}, "1 keys missing such as stem.0.weight", out)
    save_classifier(model, build("small", 3, 1), ClassifierSpec("small", ("x", "y", "z"), 1, 16))
    settings = {**supervised, "method.name": "soft-target", "model.teacher": str(model)}
    bad(settings, "knows 3 other classes than the 4", out)
    bad({**supervised, "model.init": str(model), "model.arch": "resnet18"}, "is a small, not a resnet18", out)
    bad({**supervised, "model.init": str(model), "data.channels": 3}, "takes 1 channels, not 3", out)


def test_result_names_what_it_came_from(uda: Settings, tmp_path: Path) -> None:
    result = go(uda, out=str(tmp_path / "r"))
    details = json.loads((tmp_path / "r" / "result.json").read_text())
    assert details["accuracy"] == result.accuracy
    assert details["test"]["images"] == 24
    assert details["data"]["unlabeled"] == ["pseudo-24"]
    assert details["data"]["target"]["labeled_images"] == 12
    assert details["steps"] == 12
    classifier = load_classifier(str(tmp_path / "r" / "model"))
    assert classifier.spec.class_names == CLASSES
    assert isinstance(load_config(str(tmp_path / "r" / "config.yaml")), TrainConfig)
