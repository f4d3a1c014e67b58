"""Model directories that name code: opened with architectures that the package, torchvision or timm build, else only if someone asks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from traps import Trap, one_sentence, say

from ppcore.classifiers import ClassifierSpec, build, load_classifier, save_classifier
from ppcore.errors import UserError
from ppcore.trust import Trust, code_digest
from ppflow.jobs import StageJob
from ppflow.runner.stages import run_stage

DIGITS = tuple("0123456789")


@pytest.fixture
def model(tmp_path: Path, trap: Trap) -> Path:
    """A model of ten classes whose architecture is the trap."""
    folder = tmp_path / "model"
    torch.manual_seed(0)
    save_classifier(
        folder, torch.nn.ModuleDict({"head": torch.nn.Linear(1, 10)}), ClassifierSpec(trap.net, DIGITS, 1, 16)
    )
    Image.new("L", (16, 16)).save(tmp_path / "x.png")
    return folder


def commands(model: Path) -> dict[str, list[str]]:
    here = model.parent
    run = [
        "run",
        "--target",
        "digits",
        "--labels-per-class",
        "2",
        "--steps",
        "1",
        "--device",
        "cpu",
        "--out",
        f"{here}/run",
    ]
    return {
        "eval": ["eval", str(model), "--target", "digits", "--device", "cpu"],
        "predict": ["predict", str(model), f"{here}/x.png", "--device", "cpu"],
        "export": ["export", str(model), "--out", f"{here}/out.pt2", "--to", "torch-export"],
        "init": [*run, "--init", str(model)],
        "teacher": [*run, "--teacher", str(model), "--method", "soft-target"],
    }


@pytest.mark.parametrize("name", ["eval", "predict", "export", "init", "teacher"])
def test_code_in_a_model_runs_only_when_asked_for(
    name: str, model: Path, trap: Trap, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = commands(model)[name]
    said = say(capsys, "pptrain", *arguments)
    assert (said.status, said.out) == (2, "")
    assert one_sentence(said.err)
    assert trap.net in said.err
    assert "--trust-code" in said.err
    assert not trap.sprung
    assert not (model.parent / "run").exists()
    assert say(capsys, "pptrain", *arguments, "--trust-code").status == 0
    assert trap.sprung


def test_the_typed_architecture_opens_an_initial_model(
    model: Path, trap: Trap, capsys: pytest.CaptureFixture[str]
) -> None:
    init = commands(model)["init"]
    assert say(capsys, "pptrain", *init, "--arch", "other:Net").status == 2
    assert not trap.sprung
    assert say(capsys, "pptrain", *init, "--arch", trap.net).status == 0


def test_nothing_is_remembered_between_commands(
    tmp_path: Path, trap: Trap, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command that names the code resumes as it is; another command on the run asks for the flag."""
    for variable in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    run = [*commands(tmp_path / "model")["init"][:-2], "--arch", trap.net, "--resolution", "16"]
    assert say(capsys, "pptrain", *run).status == 0
    assert say(capsys, "pptrain", *run).status == 0
    mine = ["eval", str(tmp_path / "run"), "--target", "digits", "--device", "cpu"]
    said = say(capsys, "pptrain", *mine)
    assert said.status == 2
    assert "--trust-code" in said.err
    assert say(capsys, "pptrain", *mine, "--trust-code").status == 0
    assert not list((tmp_path / "home").rglob("*pptransfer*"))


def test_a_trust_allows_what_was_typed() -> None:
    assert not Trust().allows("a:b")
    assert Trust(typed=("a:b",)).allows("a:b")
    assert not Trust(typed=("a:b",)).allows("a:c")
    assert Trust(code=True).allows("a:b")


def test_the_digest_of_code_is_that_of_its_file(trap: Trap) -> None:
    before = code_digest(trap.net)
    trap.file.write_text(trap.file.read_text() + "# changed\n")
    assert len(before) == 64
    assert code_digest(trap.net) not in ("", before)
    assert not trap.sprung
    assert code_digest("no_such_module:x") == ""


def test_settings_in_a_file_do_not_stand_on_the_command_line(
    tmp_path: Path, trap: Trap, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text(f"model: {{arch: '{trap.net}'}}\n")
    run = [
        *commands(tmp_path / "model")["init"][:-2],
        "--resolution",
        "16",
        "--config",
        f"{tmp_path}/config.yaml",
    ]
    said = say(capsys, "pptrain", *run)
    assert said.status == 2
    assert f"--arch {trap.net}" in said.err
    assert not trap.sprung
    assert say(capsys, "pptrain", *run, "--arch", trap.net).status == 0


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_links_out_of_a_model_are_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    save_classifier(folder, build("small", 3, 1), ClassifierSpec("small", DIGITS[:3], 1, 16))
    shutil.move(folder / name, tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="symbolic link out of"):
        load_classifier(str(folder))


@pytest.mark.parametrize(
    "change",
    [
        {"class_names": ["a"] * 10**6},
        {"arch": "timm/../x"},
        {"arch": "x" * 10**6},
        {"arch": "\x1b[2J:x"},
        {"resolution": 10**9},
    ],
)
def test_hostile_configurations_are_one_sentence(tmp_path: Path, change: dict[str, object]) -> None:
    folder = tmp_path / "model"
    save_classifier(folder, build("small", 3, 1), ClassifierSpec("small", DIGITS[:3], 1, 16))
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError) as caught:
        load_classifier(str(folder))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1500


def test_a_recipe_exports_a_model_of_others_without_running_their_code(
    model: Path, trap: Trap, tmp_path: Path
) -> None:
    """Only what a stage of the same recipe made is opened with the code that it names."""
    job = StageJob("0", "export", "", None, "export", {"model": str(model)}, tmp_path / "e", needs=())
    with pytest.raises(UserError, match="--trust-code"):
        run_stage(job)
    assert not trap.sprung
