"""`ppflow run best` with a user's folder and network: the exported classifier, the table, the sentences and the report."""

from __future__ import annotations

import json
from pathlib import Path

import inplace
import pytest
from PIL import Image, ImageDraw

from ppcore.errors import UserError
from ppcore.seeds import numpy_rng
from ppflow.cli.commands import write_new
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


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bestnet.py").write_text(NETWORK)
    strokes(tmp_path / "strokes", 4, 10)
    return tmp_path


@pytest.mark.slow
def test_from_a_folder_and_a_network_to_a_measured_file(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parameters = {"target": "strokes", "arch": "bestnet:Net"}
    assert inplace.run(monkeypatch, "best", place / "out", parameters=parameters, scale="tiny") == 0
    output = capsys.readouterr().out
    assert "Against Scratch, strong views: " in output
    assert "% on 8 test images in onnxruntime" in output
    file = next((place / "out/stages").glob("deployed-*/model.onnx"))
    found = json.loads((file.parent / "result.json").read_text())
    assert found["images"] == 8
    assert 0 <= found["accuracy"] <= 1
    chosen = [json.loads(p.read_text()) for p in (place / "out/stages").glob("chosen-*/chosen.json")]
    assert len(chosen) == 2
    for choice in chosen:
        best = max(choice["val_accuracy"].values())
        assert choice["val_accuracy"][choice["chosen"]] == best
    page = (place / "out/report.html").read_text()
    assert "chosen on validation" in page


def test_a_recipe_of_ones_own(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_new("strokes", "bestnet:Net", "letters", Path("mine.yaml"))
    assert "next: ppflow run mine.yaml --dry-run" in capsys.readouterr().out
    recipe = load_recipe("mine.yaml")
    assert recipe.parameters["target"] == "strokes"
    assert recipe.parameters["channels"] == 1
    assert recipe.cells[0].stages["scratch"].settings["model.arch"] == "bestnet:Net"
    with pytest.raises(UserError, match="exists; choose another"):
        write_new("strokes", "small", "letters", Path("mine.yaml"))
