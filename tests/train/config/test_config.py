"""Settings: types, overriding, errors that help."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ppcore.errors import UserError
from pptrain.config import TrainConfig, differences, load_config, save_config


def test_command_line_beats_file_beats_preset(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("optim: {lr: 0.5, weight_decay: 1e-3}\ndata: {shards: one}\nviews: {flip: true}\n")
    config = load_config(str(file), {"optim.lr": "0.25", "method.options": {"tau": 1}}, preset="paper")
    assert config.optim.lr == 0.25
    assert config.optim.weight_decay == 1e-3  # YAML reads 1e-3 as text
    assert config.optim.name == "sgd"
    assert config.optim.milestones == [0.3, 0.6, 0.8]
    assert config.data.shards == ["one"]
    assert config.views.flip is True
    assert config.method.options == {"tau": 1}


def test_saved_configuration_comes_back(tmp_path: Path) -> None:
    config = load_config(overrides={"data.target": "digits", "seed": 2**62 + 1, "views.flip": None})
    save_config(config, tmp_path)
    assert load_config(str(tmp_path / "config.yaml")) == config
    assert config.seed == 2**62 + 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("optim.lrr", 1, "unknown setting 'optim.lrr'; did you mean 'lr'"),
        ("optin.lr", 1, "unknown setting 'optin'; did you mean 'optim'"),
        ("optim.lr", "fast", "expected a value of type float"),
        ("optim.steps", 1.5, "expected a value of type int"),
        ("optim.lr", float("nan"), "expected a value of type float"),
        ("optim.lr", 0, "above 0"),
        ("views.flip", "perhaps", "type bool"),
        ("optim", 3, "expected a mapping"),
        ("data.shards", {"a": 1}, "expected a list"),
        ("optim.name", "lion", "expected one of adamw, sgd"),
        ("data.channels", 2, "expected one of 0, 1, 3"),
        ("optim.lr", True, "expected a value of type float"),
        ("optim.steps", "soon", "expected a value of type int"),
        ("loop.ema", 1, "below 1"),
        ("seed", -1, "seed is -1; expected 0 or more"),
        ("method.options", "mu", "expected a mapping"),
        ("optim", {"batch_size": 50, "accumulate": 3}, "not a multiple"),
        ("data.val_fraction", 1.5, "below 1"),
        ("data.weights", [0.5], "1 weights were given for 0"),
        ("data", {"shards": ["a", "b"], "weights": [0, 0]}, "data.weights are all 0"),
    ],
)
def test_mistakes(name: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(overrides={name: value})


def test_values_may_stand_in_texts() -> None:
    settings = {
        "optim.steps": "1e3",
        "optim.lr": "1e-3",
        "data.channels": "3",
        "data.weights": "1",
        "data.shards": 5,
    }
    settings |= {"views.flip": "auto", "data.val_fraction": "None", "loop.compile": "true", "optim.epochs": 2}
    config = load_config(overrides=settings)
    assert (config.optim.steps, config.optim.lr, config.data.channels) == (1000, 1e-3, 3)
    assert (config.data.weights, config.data.shards) == ([1.0], ["5"])
    assert config.views.flip is None
    assert config.data.val_fraction is None
    assert config.loop.compile is True
    assert isinstance(config.optim.epochs, float)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        load_config(str(tmp_path / "none.yaml"))
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(UserError, match="not valid YAML"):
        load_config(str(tmp_path / "bad.yaml"))
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(UserError, match="not a mapping"):
        load_config(str(tmp_path / "list.yaml"))
    with pytest.raises(UserError, match="unknown preset"):
        load_config(preset="papers")


def test_only_what_changes_the_result_counts_as_a_difference() -> None:
    a = TrainConfig()
    b = replace(a, out="x", data=replace(a.data, workers=4), loop=replace(a.loop, log_every=3, device="cpu"))
    assert differences(a, b) == []
    assert differences(a, replace(a, seed=1)) == ["seed 0 -> 1"]
