"""The source classifier gives pseudo samples target classes, unless the initial network knows the target already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from toyshards import CLASSES, ShardWriter, index_of

from ppcore.classifiers import ClassifierSpec, build, load_classifier, save_classifier
from ppcore.errors import UserError
from ppcore.targets import load_target
from pptrain.config import load_config
from pptrain.data import open_shard_pool
from pptrain.engine import prototypes, train
from pptrain.engine.inputs import planned_classifier
from pptrain.engine.prepare import prepare_run
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.prototypes import few_of_each, fit_prototypes, with_prototypes

Settings = dict[str, Any]


def points(per_class: int, spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (3 * per_class, 8) around three far centres, and their classes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat_interleave(per_class)
    return 5 * F.one_hot(labels, 8) + spread * torch.randn(len(labels), 8, generator=generator), labels


def test_prototypes_recognise_what_they_were_not_fitted_to() -> None:
    features, labels = points(20, 1.0)
    fitted = fit_prototypes(features[::2], labels[::2], 3)
    soft = fitted.soft_labels(features[1::2])
    assert torch.allclose(soft.sum(1), torch.ones(30))
    assert (soft.argmax(1) == labels[1::2]).float().mean() > 0.9
    assert fitted.accuracy > 0.9


def test_leave_one_out_accuracy_and_temperature_are_those_of_fits_without_the_image() -> None:
    features, labels = points(5, 6.0)
    fitted = fit_prototypes(features, labels, 3)
    unit = F.normalize(features - features.mean(0), dim=1)
    cosines = []
    for left_out in range(len(labels)):
        kept = torch.arange(len(labels)) != left_out
        means = torch.stack([F.normalize(unit[kept & (labels == c)].sum(0), dim=0) for c in range(3)])
        cosines.append(means @ unit[left_out])
    found = torch.stack(cosines)
    assert fitted.accuracy == pytest.approx(float((found.argmax(1) == labels).float().mean()))
    assert 0.3 < fitted.accuracy < 1
    losses = {t: float(F.cross_entropy(found / t, labels)) for t in np.geomspace(0.01, 1, 41)}
    assert fitted.temperature == pytest.approx(min(losses, key=lambda t: losses[t]), rel=1e-4)


def test_one_image_a_class_is_no_evidence() -> None:
    features, labels = points(1, 1.0)
    assert fit_prototypes(features, labels, 3).accuracy == 0


def test_large_classes_are_measured_on_a_part() -> None:
    labels = np.repeat([0, 1, 2], [50, 20, 3])
    chosen = few_of_each(labels)
    assert np.bincount(labels[chosen]).tolist() == [20, 20, 3]
    assert (np.diff(chosen) > 0).all()
    assert np.ptp(chosen[:20]) > 20  # not the first ones, which may come from one film


@pytest.fixture
def settings(write_shards: ShardWriter, target_folder: Path, tiny: Settings, tmp_path: Path) -> Settings:
    """A run with a teacher and a pseudo set, whose conditions say nothing."""
    names = load_target(str(target_folder)).train.ids
    pseudo = write_shards("pseudo", [17, 7], kind="pseudo", target_ids=names)
    torch.manual_seed(1)
    save_classifier(
        tmp_path / "teacher", build("small", 7, 1), ClassifierSpec("small", tuple("ABCDEFG"), 1, 16)
    )
    return {
        **tiny,
        "data.target": str(target_folder),
        "data.unlabeled": [str(pseudo)],
        "model.teacher": str(tmp_path / "teacher"),
        "method.name": "condition",
        "method.options": {"prototypes": 1.0},
        "out": str(tmp_path / "run"),
    }


def accuracies(monkeypatch: pytest.MonkeyPatch, teacher: float, student: float) -> None:
    """Let the prototypes of teacher and initial network have these accuracies."""
    given = iter([teacher, student] * 2)

    def fit(*arguments: Any) -> prototypes.Prototypes:
        fitted = fit_prototypes(*arguments)
        return prototypes.Prototypes(fitted.centre, fitted.means, fitted.temperature, next(given))

    monkeypatch.setattr(prototypes, "fit_prototypes", fit)


def test_every_pseudo_sample_gets_the_teachers_class_and_a_synth_sample_none(
    settings: Settings, write_shards: ShardWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracies(monkeypatch, 0.9, 0.2)
    synth = write_shards("synth", [5])
    settings["data.unlabeled"] = [*settings["data.unlabeled"], str(synth)]
    group = ProcessGroup("cpu")
    prepared = with_prototypes(prepare_run(load_config(overrides=settings), group), group, quiet=True)
    assert prepared.source is not None
    taught = prepared.source.taught
    assert taught is not None
    assert taught.shape == (29, len(CLASSES))
    assert taught[24:].eq(0).all()
    teacher = load_classifier(str(settings["model.teacher"]))
    train_images = prepared.train
    assert train_images is not None
    labelled = prototypes._features_of_images(teacher, train_images, torch.device("cpu"))
    fitted = fit_prototypes(labelled, torch.from_numpy(train_images.labels).long(), len(CLASSES))
    assert prepared.unlabeled is not None
    batch = next(prepared.unlabeled.batches(0))
    assert index_of(batch.images[batch.ids < 24]) == batch.ids[batch.ids < 24].tolist()
    own = batch.ids < 24
    with torch.no_grad():
        wanted = fitted.soft_labels(teacher.features(batch.images[own]))
    assert torch.allclose(taught[batch.ids[own]], wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("teacher", "student", "used"),
    [(0.6, 0.2, True), (0.4, 0.49, True), (0.9, 0.5, False), (0.25, 0.2, False)],
)
def test_a_network_that_knows_the_target_before_training_needs_no_teacher(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    teacher: float,
    student: float,
    used: bool,
) -> None:
    accuracies(monkeypatch, teacher, student)
    result = train(load_config(overrides=settings))
    printed = capsys.readouterr().out
    assert f"labelled images (leave-one-out) by the teacher, {student:.0%} by the initial network" in printed
    assert ("the teacher is not used" in printed) is not used
    logged = Path(result.out, "metrics.csv").read_text().splitlines()[0]
    assert ("loss_prototypes" in logged) is used


def test_prototypes_need_pseudo_samples(settings: Settings, write_shards: ShardWriter) -> None:
    with pytest.raises(UserError, match="prototypes needs pseudo samples"):
        train(load_config(overrides={**settings, "data.unlabeled": [str(write_shards("synth", [9]))]}))
    assert not Path(settings["out"]).exists()


def test_prototypes_need_a_teacher(settings: Settings) -> None:
    with pytest.raises(UserError, match="needs a teacher; give --teacher MODEL"):
        train(load_config(overrides={**settings, "model.teacher": ""}))


@pytest.mark.parametrize(
    ("load", "teacher"),
    [
        ({"source": "letters"}, "letters"),
        ({"source": "letters", "classifier": None}, "letters"),
        ({"source": "letters", "classifier": "resnet50"}, "resnet50"),
        ({"source": "bank:photos", "classifier": "timm/vit_tiny"}, "timm/vit_tiny"),
        ({"source": "bank:photos", "classifier": "../mine"}, ""),
        ({"source": "letters", "classifier": "here"}, ""),
        ({"source": "somewhere"}, ""),
        ({"source": ["letters"]}, ""),
        (None, ""),
    ],
)
def test_a_plan_may_name_kits_and_published_classifiers_only(
    load: Any, teacher: str, write_shards: ShardWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    root = write_shards("pseudo", [4], kind="pseudo", plan={"load": load})
    named, notes = planned_classifier(open_shard_pool([str(root)], None))
    assert named == teacher
    place = (load or {}).get("classifier") in ("../mine", "here")
    assert any("--teacher" in note for note in notes) is place


def test_the_rule_takes_the_kits_classifier_and_goes_on_without_one_that_cannot_be_opened(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Path(settings["data.unlabeled"][0]) / "plan.json"
    bare = {k: v for k, v in settings.items() if not k.startswith(("method", "model.teacher"))}

    def resolved(source: str) -> tuple[str, Settings, list[str]]:
        plan.write_text(json.dumps({**json.loads(plan.read_text()), "load": {"source": source}}))
        found = prepare_run(load_config(overrides=bare), ProcessGroup("cpu"))
        return found.config.model.teacher, found.config.method.options, found.notes

    teacher, options, _ = resolved("letters")
    assert (teacher, options["prototypes"]) == ("letters", 1.0)
    teacher, options, _ = resolved("bank:photos")
    assert teacher == ""
    assert "prototypes" not in options

    def refuse(*_: Any, **__: Any) -> None:
        raise UserError("no network")

    monkeypatch.setattr("pptrain.engine.inputs.load_classifier", refuse)
    teacher, options, notes = resolved("letters")
    assert teacher == ""
    assert "prototypes" not in options
    assert any("letters is not used as the teacher: no network" in note for note in notes)
