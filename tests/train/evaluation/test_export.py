"""Exported models against the classifiers that they come from, at the sizes that people use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ppcore.classifiers import Classifier, ClassifierSpec, build, load_classifier, save_classifier
from ppcore.targets import load_target
from pptrain.evaluation import export_model
from pptrain.evaluation.export import onnx_logits
from pptrain.evaluation.figures import image_batches, predict_logits

CLASSES = ("dark", "light")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """An image folder: 4 training and 8 test images of each class, 150x130 pixels in colour."""
    random = np.random.default_rng(0)
    for split, count in (("train", 4), ("test", 8)):
        for label, name in enumerate(CLASSES):
            folder = tmp_path / "photographs" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                coarse = random.integers(90 * label, 90 * label + 165, (13, 15, 3), dtype=np.uint8)
                Image.fromarray(coarse).resize((150, 130)).save(folder / f"{number}.png")
    return tmp_path / "photographs"


def make_model(folder: Path, arch: str, resolution: int, resize: int, **more: Any) -> Classifier:
    """A model directory of a random network whose batch norm has seen images, so that its logits differ by image."""
    torch.manual_seed(0)
    net = build(arch, 2, 3)
    with torch.no_grad():
        for _ in range(3):
            net.train()(torch.randn(4, 3, resolution, resolution))
    save_classifier(folder, net, ClassifierSpec(arch, CLASSES, 3, resolution, resize, MEAN, STD, **more))
    return load_classifier(str(folder))


@pytest.mark.parametrize(
    ("resolution", "resize", "more", "described"),
    [
        (96, 110, {}, {"crop_mode": "center", "shorter_side": 110, "resample": "bicubic, antialiased"}),
        (
            224,
            256,
            {"interpolation": "bilinear", "crop_mode": "squash"},
            {"crop_mode": "squash", "both_sides": 256, "resample": "bilinear, antialiased"},
        ),
    ],
)
def test_an_export_of_any_size_agrees_with_the_classifier(
    resolution: int,
    resize: int,
    more: dict[str, Any],
    described: dict[str, Any],
    photographs: Path,
    tmp_path: Path,
) -> None:
    classifier = make_model(tmp_path / "m", "small", resolution, resize, **more)
    exported = export_model(str(tmp_path / "m"), target=str(photographs))
    test = load_target(str(photographs)).test
    expected = torch.cat(list(predict_logits(classifier.whole(), image_batches(test, classifier.spec))))
    found = torch.cat(list(onnx_logits(exported.file, image_batches(test, classifier.spec))))
    scale = float(expected.abs().max())
    assert expected.std(0).min() > 0.01 * scale  # the images matter
    assert (found - expected).abs().max() < 1e-4 * scale
    assert exported.difference < 1e-4 * scale
    original, onnx = exported.evaluations["original"], exported.evaluations["onnx"]
    assert np.array_equal(original.predictions, onnx.predictions)
    assert original.accuracy == onnx.accuracy
    preparation = json.loads(Path(f"{exported.file}.json").read_text())["preparation"]
    assert preparation | described == preparation
