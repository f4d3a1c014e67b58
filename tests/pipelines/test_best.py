"""`ppflow run best` with a user's folder and network: the exported classifier, the table, the sentences and the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import inplace
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from ppcore.errors import UserError
from ppcore.seeds import numpy_rng
from ppflow.cli.commands import app, write_new
from ppflow.cli.dry_run import job_sizes
from ppflow.cli.experiment import RunOptions, open_recipe
from ppflow.jobs import expand
from ppflow.recipe import load_recipe

NETWORK = '''
from torch import nn


class Net(nn.Module):
    """A network of the user's own."""

    def __init__(self, num_classes, in_channels=3):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )
        self.head = nn.Linear(32, num_classes)

    def forward(self, x):
        return self.head(self.features(x))


class Fixed(Net):
    """Takes images of one size."""

    def forward(self, x):
        assert x.shape[-1] == 224
        return super().forward(x)
'''


def strokes(folder: Path, classes: int, images: int) -> Path:
    """Black strokes on white, 105x105, one bit a pixel."""
    for label in range(classes):
        (folder / f"c{label:02d}").mkdir(parents=True)
        shape = numpy_rng(0, "shape", label).integers(10, 95, 8)
        for number in range(images):
            shift = numpy_rng(0, "shift", label, number).integers(-6, 7, 8)
            picture = Image.new("1", (105, 105), 1)
            ImageDraw.Draw(picture).line([int(v) for v in shape + shift], fill=0, width=4)
            picture.save(folder / f"c{label:02d}" / f"{number}.png")
    return folder


def photographs(folder: Path, classes: int, images: int, side: int) -> Path:
    """Colour noise, each class around a colour of its own."""
    for label in range(classes):
        (folder / f"p{label}").mkdir(parents=True)
        colour = numpy_rng(0, "colour", label).integers(60, 200, 3)
        for number in range(images):
            noise = numpy_rng(0, "photo", label, number).integers(-50, 50, (side, side + 8, 3))
            Image.fromarray((colour + noise).astype("uint8")).save(folder / f"p{label}" / f"{number}.jpg")
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bestnet.py").write_text(NETWORK)
    strokes(tmp_path / "strokes", 4, 10)
    photographs(tmp_path / "photos", 3, 10, 96)
    return tmp_path


def settings(**parameters: str) -> tuple[list[str], dict[str, Any]]:
    """(rows of the recipe best with these parameters, training settings of its first stage)."""
    recipe, root = open_recipe("best", RunOptions(parameters={"arch": "bestnet:Net", **parameters}))
    assert root == Path("runs/best")
    stages = recipe.cells[0].stages.values()
    return list(recipe.rows), next(stage.settings for stage in stages if stage.kind == "train")


def test_photographs_without_a_source_train_from_scratch(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, training = settings(target="photos")
    assert rows == ["Scratch", "Scratch, strong views", "The better one, chosen on validation"]
    assert (training["data.resolution"], training["data.channels"]) == (96, 3)
    said = capsys.readouterr().err
    assert "the source letters (grey, 32 pixels) is unlikely to help" in said
    assert "classes by the folders" in said


def test_a_folder_that_is_no_task_is_refused_before_any_stage(place: Path) -> None:
    photographs(place / "alone", 1, 10, 40)
    with pytest.raises(UserError, match="'alone' has training images of one class only"):
        settings(target="alone")
    assert not (place / "runs").exists()


def test_the_source_of_the_command_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photographs(place / "bank", 2, 3, 40)
    invoke = CliRunner().invoke(
        app,
        ["run", "best", "--target", "photos", "--arch", "bestnet:Net", "--source", "bank:bank", "--dry-run"],
    )
    assert invoke.exit_code == 0, invoke.output
    assert "classes (synth): 2 classes x 240 = 480 images" in invoke.output
    assert "similar (pseudo): 3 x 24 images of photos, 2,000 images; needs pretrain" in invoke.output
    assert "hours not known" not in invoke.output
    assert not (place / "runs").exists()
    rows, training = settings(target="photos", source="letters")
    assert "PP" in rows
    assert (training["data.resolution"], training["data.channels"]) == (96, 3)
    assert "is unlikely to help" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "arch", "found"),
    [
        ("strokes", "bestnet:Net", (32, 1)),  # drawings: as the letters
        ("photos", "bestnet:Fixed", (224, 3)),
        ("photos", "mobile", (32, 3)),  # a network for 32 pixels
    ],
)
def test_resolution_follows_the_images_and_the_network(
    place: Path, target: str, arch: str, found: tuple[int, int]
) -> None:
    _, training = settings(target=target, arch=arch)
    assert (training["data.resolution"], training["data.channels"]) == found


@pytest.mark.slow
@pytest.mark.parametrize(
    "data", [{"target": "strokes"}, {"target": "photos", "source": "bank:photos"}], ids=["strokes", "photos"]
)
def test_from_a_folder_and_a_network_to_a_measured_file(
    data: dict[str, str], place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parameters = {"arch": "bestnet:Net", **data}
    assert inplace.run(monkeypatch, "best", place / "out", parameters=parameters, scale="tiny") == 0
    output = capsys.readouterr().out
    assert "Against Scratch, strong views: " in output
    tests = 8 if data["target"] == "strokes" else 6
    assert f"% on {tests} test images in onnxruntime" in output
    file = next((place / "out/stages").glob("deployed-*/model.onnx"))
    found = json.loads((file.parent / "result.json").read_text())
    assert found["images"] == tests
    assert 0 <= found["accuracy"] <= 1
    chosen = [json.loads(p.read_text()) for p in (place / "out/stages").glob("chosen-*/chosen.json")]
    assert len(chosen) == 2
    for choice in chosen:
        best = max(choice["val_accuracy"].values())
        assert choice["val_accuracy"][choice["chosen"]] == best
    page = (place / "out/report.html").read_text()
    assert "chosen on validation" in page


def test_a_recipe_of_ones_own(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_new("strokes", "bestnet:Net", None, Path("mine.yaml"))
    assert "next: ppflow run mine.yaml --dry-run" in capsys.readouterr().out
    recipe = load_recipe("mine.yaml")
    assert recipe.parameters["target"] == "strokes"
    assert recipe.parameters["source"] == "letters"
    assert recipe.parameters["channels"] == 1
    assert recipe.cells[0].stages["scratch"].settings["model.arch"] == "bestnet:Net"
    with pytest.raises(UserError, match="exists; choose another"):
        write_new("strokes", "small", None, Path("mine.yaml"))
    write_new("photos", "bestnet:Net", None, Path("photos.yaml"))
    assert "Scratch" in load_recipe("photos.yaml").rows


def test_size_counts_the_unlabelled_images_of_the_method(place: Path) -> None:
    parameters = {"target": "strokes", "arch": "bestnet:Net"}
    recipe, root = open_recipe("best", RunOptions(parameters=parameters, scale="tiny"))
    graph = expand(recipe, root)
    images = {graph.jobs[digest].stage: size.images for digest, size in job_sizes(graph).items()}
    assert images["try_pp"] == 2 * 8
    assert images["try_condition"] == 2 * 8 * 3  # two unlabelled images for each labelled one, by default
