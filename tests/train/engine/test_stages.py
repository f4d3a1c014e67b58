"""The rule of default settings, and what is found under runs/ for a target."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from toyshards import write

from ppcore.errors import UserError
from pptrain.config import fine_tuning_rule, load_config, pre_training_rule
from pptrain.engine.directories import find_pseudo
from pptrain.engine.stages import default_stages


def test_length_grows_with_the_root_of_the_labelled_images_inside_bounds() -> None:
    steps = [fine_tuning_rule(n).steps for n in (1, 20, 80, 180, 10**6)]
    assert steps == [200, 400, 800, 1200, 4000]
    assert fine_tuning_rule(100).steps == 900  # 894 rounded to fifty


def test_soft_labels_of_labelled_images_are_asked_for_where_a_head_and_labels_are_there() -> None:
    def weights(**more: bool) -> dict[str, float]:
        return fine_tuning_rule(200, conditions=True, **more).options

    assert weights(soft_labels=True) == {"lambda_u": 0.5, "labelled_soft": 0.5}
    assert weights() == {"lambda_u": 0.5, "labelled_soft": 0.0}
    assert fine_tuning_rule(200).options == {}


def test_pre_training_is_ten_epochs_or_500_steps() -> None:
    assert [pre_training_rule(n, 0).steps for n in (10, 12_480, 1_300_000)] == [500, 1950, 203_125]
    assert pre_training_rule(12_480, 128).steps == 975


def test_no_initial_weights_may_be_spelled_out() -> None:
    for word in ("none", "None", ""):
        assert load_config(overrides={"model.init": word}).model.init == ""
    assert load_config(overrides={"model.init": "runs/none"}).model.init == "runs/none"


# ---- what is found under runs/


def pseudo(name: str, target: str, age: int, spec: str | None = None, labels: int | None = None) -> Path:
    """A finished pseudo directory under runs/, so many seconds old."""
    plan: dict[str, Any] = {"target": {"name": target, "labels_per_class": labels, "label_seed": None}}
    if spec is not None:
        plan["load"] = {"target": spec}
    root = write(Path("runs") / f"pseudo-{name}", [4], kind="pseudo", plan=plan)
    os.utime(root / "index.json", (10**9 - age, 10**9 - age))
    return root


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("mine/flowers", "theirs/flowers"):
        Path(name).mkdir(parents=True)


def test_a_target_gets_the_directory_made_for_it_and_not_the_newest() -> None:
    write(Path("runs/synth-toy"), [4])
    mine = pseudo("mine", "flowers", age=50, spec="mine/flowers")
    pseudo("theirs", "flowers", age=10, spec="theirs/flowers")
    pseudo("digits", "digits", age=0, spec="digits")
    (pre, tune), notes = default_stages({"data.target": "./mine/flowers/"}, None)
    assert pre.data.shards == ["runs/synth-toy"]
    assert tune.model.init == pre.out
    assert tune.data.unlabeled == [str(mine), "runs/synth-toy"]
    assert tune.data.weights == [0.5, 0.5]
    said = "\n".join(notes)
    assert (
        "runs/pseudo-mine, made for this target and, half of every batch, runs/synth-toy (others: --" in said
    )
    assert "pre-training on runs/synth-toy" in said
    assert "--init none" in said
    assert "not used, made for other targets: runs/pseudo-digits (digits), runs/pseudo-theirs" in said


def test_images_of_pre_training_are_mixed_in_where_they_show_the_same_classes() -> None:
    source = {"source": {"name": "other", "class_names": ["x", "y"]}}
    write(Path("runs/synth-toy"), [4], plan=source)
    mine = pseudo("mine", "flowers", age=50, spec="mine/flowers")
    (_, tune), _ = default_stages({"data.target": "mine/flowers"}, None)
    assert (tune.data.unlabeled, tune.data.weights) == ([str(mine)], [])
    os.remove("runs/synth-toy/plan.json")
    with pytest.raises(UserError, match=r"runs/synth-toy/plan\.json is damaged"):
        default_stages({"data.target": "mine/flowers"}, None)
    shutil.rmtree("runs/synth-toy")
    write(Path("runs/synth-toy"), [4])
    named = {"data.target": "mine/flowers", "method.name": "uda"}
    (_, tune), _ = default_stages(named, None)
    assert tune.data.unlabeled == [str(mine)]
    digits = pseudo("digits", "digits", age=0, spec="digits")
    (_, tune), _ = default_stages({}, None)
    assert tune.data.unlabeled == [str(digits), "runs/synth-toy"]


def test_a_teacher_without_a_method_is_for_the_pseudo_samples_that_are_found() -> None:
    write(Path("runs/synth-toy"), [4])
    mine = pseudo("mine", "digits", age=0, spec="digits")
    (pre, tune), _ = default_stages({"model.teacher": "letters"}, None)
    assert (pre.model.teacher, tune.model.teacher) == ("", "letters")
    assert str(mine) in tune.data.unlabeled


def test_among_its_directories_the_one_of_as_many_labels_wins() -> None:
    two = pseudo("two", "digits", age=50, spec="digits", labels=2)
    five = pseudo("five", "digits", age=10, spec="digits", labels=5)
    asked: dict[str, Any] = {"data.target": "digits"}
    (tune,), notes = default_stages(asked, None)
    assert tune.data.unlabeled == [str(five)]
    assert tune.data.labels_per_class == 0
    assert "--labels-per-class 5 uses the same ones" in notes[-1]
    (tune,), _ = default_stages({**asked, "data.labels_per_class": 2}, None)
    assert tune.data.unlabeled == [str(two)]


def test_a_directory_made_elsewhere_is_known_by_its_targets_name() -> None:
    elsewhere = pseudo("far", "flowers", age=0, spec="/no/such/place/flowers")
    old = pseudo("old", "flowers", age=5)  # version 1 plans know the name alone
    pseudo("odd", "flowers", age=9, spec="nul\0byte")
    found = [str(p.path) for p in find_pseudo() if p.is_for("mine/flowers")]
    assert found == [str(elsewhere), str(old)]
    assert not any(p.is_for("digits") for p in find_pseudo())


def test_a_known_target_is_the_same_from_any_place() -> None:
    pseudo("cars", "cars", age=0, spec="cars=/data/cars")
    pseudo("digits", "digits", age=1, spec="digits")
    pseudo("folder", "cars", age=2, spec="theirs/flowers/../cars")
    cars, digits, folder = find_pseudo()
    assert [cars.is_for(spec) for spec in ("cars", "cars=elsewhere")] == [True, True]
    assert [cars.is_for(spec) for spec in ("digits", "x/cars")] == [False, False]
    assert [digits.is_for(spec) for spec in ("digits", "cars", "x/digits")] == [True, False, False]
    Path("theirs/cars").mkdir()
    assert [folder.is_for(spec) for spec in ("theirs/cars", "cars", "x/cars")] == [True, False, False]


def test_without_a_directory_of_its_own_source_images_serve_condition_prediction_alone() -> None:
    write(Path("runs/synth-toy"), [4])
    pseudo("digits", "digits", age=0, spec="digits")
    asked = {"data.target": "mine/flowers"}
    (_, tune), notes = default_stages(asked, None)
    assert tune.data.unlabeled == ["runs/synth-toy"]
    assert "ppgen pseudo --target mine/flowers makes better ones" in "\n".join(notes)
    with pytest.raises(UserError, match="method uda needs unlabelled images"):
        default_stages({**asked, "method.name": "uda"}, None)
    (_, tune), _ = default_stages({**asked, "method.name": "supervised"}, None)
    assert tune.data.unlabeled == []


def test_with_nothing_found_it_starts_from_scratch_and_says_what_would_help() -> None:
    (tune,), notes = default_stages({"data.target": "mine/flowers", "out": "here"}, None)
    assert (tune.model.init, tune.data.unlabeled, tune.out) == ("", [], "here")
    assert len(notes) == 1
    assert "training from scratch. ppgen synth" in notes[0]
    assert "ppgen pseudo --target mine/flowers" in notes[0]


def test_pre_training_takes_the_network_and_the_machine_from_a_targets_command() -> None:
    write(Path("runs/synth-toy"), [4])
    asked = {"data.target": "digits", "model.arch": "mobile", "seed": 3, "loop.device": "cpu"}
    (first, _), _ = default_stages(asked, None)
    more = {"optim.steps": 7, "optim.lr": 0.1, "views.flip": True, "data.labels_per_class": 2, "out": "mine"}
    (second, tune), _ = default_stages({**asked, **more, "method.options.lambda_u": 0.1}, None)
    assert first == second  # the finished one is found again
    assert (first.model.arch, first.seed, first.loop.device) == ("mobile", 3, "cpu")
    assert (tune.optim.steps, tune.out, tune.method.options) == (7, "mine", {"lambda_u": 0.1})
