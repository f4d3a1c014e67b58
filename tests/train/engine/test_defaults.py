"""Commands that leave things open: what they resolve to, what they print, and that the test images stay shut."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from toyshards import ShardWriter, write
from trainruns import Settings, run

from ppcore.errors import UserError
from ppcore.targets import ImageSet, Target, load_target
from ppcore.trust import Trust
from pptrain.config import load as rule
from pptrain.engine import run_stages
from pptrain.engine.step import StepRunner

FAST = {"optim.batch_size": 8, "loop.tensorboard": False, "data.resolution": 16, "loop.amp": "no"}


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(rule, "_PRETRAINING_EPOCHS", 0)
    monkeypatch.setattr(rule, "_PRETRAINING_LEAST_STEPS", 3)


def go(**overrides: object) -> None:
    settings = {name.replace("__", "."): value for name, value in overrides.items()}
    run_stages(
        {**FAST, **settings}, file=None, preset=None, ray_workers=0, address="local", trust=Trust(False)
    )


def resolved(out: Path | str) -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load((Path(out) / "config.yaml").read_text())
    return settings


def made(kind: str) -> Path:
    (found,) = Path("runs").glob(f"train-*-{kind}-*")
    return found


def pseudo_for(target: Path, labels: int | None = None) -> Path:
    """runs/pseudo-toy-target, of all training images of `target`."""
    plan = {"target": {"name": target.name, "labels_per_class": labels, "label_seed": None}}
    plan["load"] = {"target": str(target)}
    names = load_target(str(target)).train.ids
    return write(Path("runs/pseudo-toy-target"), [48, 48], kind="pseudo", plan=plan, target_ids=names)


def test_a_target_alone_is_pre_trained_and_tuned_by_the_rule(
    target_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(Path("runs/synth-toy"), [16])
    pseudo_for(target_folder)
    go(data__target=str(target_folder), optim__steps=3)
    printed = capsys.readouterr().out
    tuned = resolved(made("condition"))
    assert tuned["method"]["options"] == {"lambda_u": 0.5, "labelled_soft": 0.5}
    assert tuned["model"]["init"] == str(made("pretrain"))
    assert (tuned["optim"]["steps"], tuned["views"]["labeled"]) == (3, "strong")
    assert "default settings for 44 labelled images of 4 classes: strong views, method condition" in printed
    assert "default settings for 16 images of 4 classes: 3 steps, batch 64, strong views" in printed
    go(data__target=str(target_folder), optim__steps=3)
    assert capsys.readouterr().out.count("finished already") == 2
    go(data__target=str(target_folder), optim__steps=4)  # another tuning, on the same pre-training
    assert capsys.readouterr().out.count("finished already") == 1


def test_every_open_choice_is_written_down_and_given_ones_stay(
    target_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule, "_MOST_STEPS", 5)
    go(data__target=str(target_folder), data__labels_per_class=1, out="open", optim__batch_size=0)
    optim = resolved("open")["optim"]
    assert (optim["steps"], optim["batch_size"]) == (5, 50)
    given = resolved("open") | {"out": "again"}
    Path("again.yaml").write_text(yaml.safe_dump(given))
    run_stages({}, file="again.yaml", preset=None, ray_workers=0, address="local", trust=Trust(False))
    assert resolved("again") == given
    weights = [load_file(Path(out) / "model/model.safetensors") for out in ("open", "again")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_uda_is_one_flag_away_exactly_as_defined(target_folder: Path) -> None:
    write(Path("runs/synth-toy"), [16])
    plan = {"target": {"name": "digits", "labels_per_class": 1, "label_seed": 7}}
    pseudo = write(Path("runs/pseudo-toy-digits"), [16], kind="pseudo", plan=plan)
    go(method__name="uda", optim__steps=3)
    found = resolved(made("uda"))
    go(
        data__target="digits",
        data__labels_per_class=1,
        data__unlabeled=[str(pseudo)],
        model__init=str(made("pretrain")),
        method__name="uda",
        optim__steps=3,
        out="typed",
    )
    assert found == {**resolved("typed"), "out": found["out"]}
    assert found["method"] == {"name": "uda", "options": {}, "batch_norm": "joint"}


def test_unlabelled_images_without_a_method_mean_condition_prediction(
    target_folder: Path, write_shards: ShardWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    synth = write_shards("synth", [16])
    go(data__target=str(target_folder), data__unlabeled=[str(synth)], optim__steps=2, out="r")
    assert resolved("r")["method"]["name"] == "condition"
    assert "method condition lambda_u=0.5 labelled_soft=0" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"real images have none; .* --method uda"):
        go(data__target=str(target_folder), data__unlabeled=["target:digits"], out="q")


def test_a_method_that_was_named_is_the_one_defined(
    target_folder: Path, write_shards: ShardWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"data__target": str(target_folder), "data__unlabeled": [str(write_shards("synth", [16]))]}
    go(**settings, method__name="condition", optim__steps=2, out="named")
    assert resolved("named")["method"]["options"] == {}
    go(**settings, **{"method.options.lambda_u": 0.1}, optim__steps=2, out="weight")
    assert resolved("weight")["method"]["options"] == {"lambda_u": 0.1, "labelled_soft": 0.0}
    assert "method condition labelled_soft=0" in capsys.readouterr().out


def test_the_rules_batch_suits_its_parts(target_folder: Path) -> None:
    settings = {"data.target": str(target_folder), "data.groups": 4, "optim.accumulate": 2, "optim.steps": 1}
    run({**FAST, **settings, "optim.batch_size": 0, "out": "r"})
    assert resolved("r")["optim"]["batch_size"] == 56


def test_the_last_stages_mistakes_are_told_before_the_first_begins(target_folder: Path) -> None:
    write(Path("runs/synth-toy"), [16])
    for wrong, message in (
        ({"data__target": "nowhere"}, "unknown target"),
        ({"method__name": "udda"}, "unknown method"),
        ({"method.options": {"lambda": 1}}, "unknown setting 'method.options.lambda'"),
        ({"data__labels_per_class": 99}, "lower --labels-per-class"),
    ):
        with pytest.raises(UserError, match=message):
            go(**{"data__target": str(target_folder), **wrong})  # type: ignore[arg-type]
    assert [p.name for p in Path("runs").iterdir()] == ["synth-toy"]


def test_weights_of_0_are_plain_fine_tuning(target_folder: Path) -> None:
    write(Path("runs/synth-toy"), [16])
    target = str(target_folder)
    go(data__target=target, optim__steps=4, out="none", **{"method.options.lambda_u": 0.0})
    go(data__target=target, optim__steps=4, out="plain", method__name="supervised")
    go(data__target=target, optim__steps=4, out="rule")
    none, plain, rule = (load_file(Path(o) / "model/model.safetensors") for o in ("none", "plain", "rule"))
    assert all(torch.equal(none[name], plain[name]) for name in plain)
    assert any(not torch.equal(rule[name], plain[name]) for name in plain)


def test_no_test_image_is_opened_before_the_end_and_each_only_once(
    target_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In both stages of a default run that looks at validation and watched images after every other step."""
    opened: list[tuple[str, int]] = []
    steps = 0
    real_step = StepRunner.run

    def spied(spec: str) -> Target:
        target = load_target(spec)

        def load(position: int) -> np.ndarray:
            opened.append((target.test.ids[position], steps))
            return target.test.load(position)

        return Target(
            target.name,
            target.classes,
            target.train,
            ImageSet(list(target.test.ids), target.test.labels, load),
        )

    def step(self: StepRunner, *args: Any) -> float:
        nonlocal steps
        steps += 1
        return real_step(self, *args)

    write(Path("runs/synth-toy"), [16])
    pseudo_for(target_folder)
    monkeypatch.setattr("pptrain.engine.inputs.load_target", spied)
    monkeypatch.setattr(StepRunner, "run", step)
    watch: Settings = {"data__labels_per_class": 8, "data__val_fraction": 0.25, "data__monitor": 4}
    go(data__target=str(target_folder), optim__steps=6, loop__eval_every=2, out="r", **watch)
    assert sorted(name for name, _ in opened) == sorted(load_target(str(target_folder)).test.ids)
    assert {when for _, when in opened} == {3 + 6}  # after the last step of pre-training and tuning
    shutil.rmtree("r/model")
    go(data__target=str(target_folder), optim__steps=6, loop__eval_every=2, out="r", **watch)
    assert len(opened) == len(load_target(str(target_folder)).test.ids)  # a finished run looks no more
