"""Figures of an evaluation against scikit-learn and hand-worked numbers."""

from __future__ import annotations

import gc
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    log_loss,
    top_k_accuracy_score,
)
from toyshards import CLASSES

from ppcore.classifiers import Classifier, ClassifierSpec, build, save_classifier, usual_input
from ppcore.errors import UserError
from ppcore.targets import ImageSet, load_target, open_images
from pptrain.cli import main
from pptrain.evaluation.figures import (
    HeldImages,
    calibration_error,
    choose_split,
    evaluate,
    summarize,
    wilson,
)
from pptrain.evaluation.predictions import predict


def test_figures_agree_with_scikit_learn() -> None:
    logits = torch.randn(300, 8, generator=torch.Generator().manual_seed(0)) * 2
    labels = torch.arange(300) % 7  # class 7 is absent
    report = summarize(logits.split(64), labels)
    guess, p = logits.argmax(1).numpy(), logits.softmax(1).double().numpy()
    p /= p.sum(1, keepdims=True)
    truth = labels.numpy()
    assert report.accuracy == pytest.approx(accuracy_score(truth, guess))
    assert report.balanced == pytest.approx(balanced_accuracy_score(truth[guess < 8], guess), abs=1e-6)
    assert report.top5 == pytest.approx(top_k_accuracy_score(truth, p, k=5, labels=range(8)))
    assert report.loss == pytest.approx(log_loss(truth, p, labels=range(8)), rel=1e-5)
    np.testing.assert_array_equal(report.confusion, confusion_matrix(truth, guess, labels=range(8)))
    assert math.isnan(report.per_class[7])
    assert json.dumps(report.as_dict())


def test_no_tensor_of_a_batch_outlives_it() -> None:
    """Small tensors between the large ones of a network let the process grow by 2.7 GB in 50,000 images."""
    alive: list[int] = []
    gc.collect()  # what earlier tests left

    def batches() -> Iterator[torch.Tensor]:
        for _ in range(10):
            alive.append(sum(isinstance(found, torch.Tensor) for found in gc.get_objects()))
            yield torch.zeros(2, 3)

    summarize(batches(), torch.zeros(20, dtype=torch.int64))
    assert alive[1:] == alive[1:2] * 9


def test_wilson_interval() -> None:
    low, high = wilson(81, 263)  # Newcombe 1998, table I: 0.2553 to 0.3662
    assert (low, high) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))
    assert wilson(0, 20)[0] == 0.0
    assert wilson(20, 20)[1] == 1.0


def test_calibration_error() -> None:
    logits = torch.log(torch.tensor([[0.8, 0.2]] * 10))
    correct = torch.tensor([True] * 6 + [False] * 4)
    assert calibration_error(logits.softmax(1).amax(1), correct) == pytest.approx(0.2, abs=1e-6)
    certain = torch.tensor([[50.0, -50.0]] * 4)
    assert calibration_error(certain.softmax(1).amax(1), torch.tensor([True] * 4)) == pytest.approx(
        0.0, abs=1e-6
    )


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["pptrain", *arguments])
    try:
        main()
    except SystemExit as stop:
        if stop.code:
            raise


def test_eval_command_on_a_folder(
    target_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_classifier(tmp_path / "m", build("small", 4, 1), ClassifierSpec("small", CLASSES, 1, 16))
    run(
        monkeypatch,
        "eval",
        str(tmp_path / "m"),
        "--target",
        str(target_folder),
        "--out",
        str(tmp_path / "e.json"),
    )
    assert "24 images" in capsys.readouterr().out
    assert json.loads((tmp_path / "e.json").read_text())["images"] == 24
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "eval", str(tmp_path / "m"), "--target", "digits")
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: the model has 4 classes, target 'digits' has 10 others")


def test_classes_are_matched_by_name(target_folder: Path) -> None:
    target = load_target(str(target_folder))
    more = ClassifierSpec("small", ("d", "x", "c", "b", "a"), 1, 16)
    chosen = choose_split(target, "test", more)
    assert chosen.labels.tolist() == [4] * 6 + [3] * 6 + [2] * 6 + [0] * 6
    assert len(choose_split(target, "all", more)) == len(target.train) + len(target.test)
    with pytest.raises(UserError, match="unknown split"):
        choose_split(target, "dev", more)


def test_classes_without_a_common_name_are_matched_by_position_and_a_warning_says_so(
    target_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = load_target(str(target_folder))
    renamed = ClassifierSpec("small", ("one", "two", "three", "four"), 1, 16)
    assert choose_split(target, "train", renamed).labels.tolist() == target.train.labels.tolist()
    assert "matched by position (a is one, b is two, c is three, d is four)" in capsys.readouterr().err


def test_one_renamed_class_is_refused_and_named(target_folder: Path) -> None:
    target = load_target(str(target_folder))
    for others in (("a", "b", "c", "dog"), ("a", "b", "c", "cat", "dog")):
        model = ClassifierSpec("small", others, 1, 16)
        with pytest.raises(UserError, match=r"not know: d \(the model's other classes: .*dog\); rename"):
            choose_split(target, "test", model)


def test_equal_lists_with_a_name_twice_are_the_same_classes(target_folder: Path) -> None:
    target = replace(load_target(str(target_folder)), classes=("crane", "b", "crane", "d"))
    model = ClassifierSpec("small", target.classes, 1, 16)
    assert choose_split(target, "test", model).labels.tolist() == target.test.labels.tolist()


def test_predict_skips_what_a_target_skips(target_folder: Path) -> None:
    expected = open_images([str(target_folder)]).ids
    (target_folder / "train" / "a" / "._000.png").write_bytes(b"\0\5\26\7")
    assert open_images([str(target_folder)]).ids == expected
    assert len(expected) == 72


class Few(Classifier):
    """Remembers how many images were decoded when it saw each batch."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(self.loaded))
        return super().forward(images)


def test_images_are_decoded_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pptrain.evaluation.figures._LARGEST_BATCH", 8)
    classifier = Few(build("small", 4, 1), ClassifierSpec("small", CLASSES, 1, 16))
    classifier.loaded, classifier.seen = [], []
    pixels = np.random.default_rng(0).integers(0, 256, (100, 16, 16, 1)).astype(np.uint8)

    def load(position: int) -> np.ndarray:
        classifier.loaded.append(position)
        return pixels[position]

    images = ImageSet([str(i) for i in range(100)], np.arange(100) % 4, load)
    found = evaluate(classifier, images)
    assert classifier.seen[0] <= 24  # the batch and the next two
    assert sorted(classifier.loaded) == list(range(100))
    whole = HeldImages(images, classifier.spec, keep_mb=1)
    assert [whole.evaluate(classifier).loss for _ in range(2)] == [found.loss] * 2
    assert len(classifier.loaded) == 200  # kept after the first time
    np.testing.assert_array_equal(whole.evaluate(classifier).predictions, found.predictions)


class Recorder(torch.nn.Linear):
    """Remembers its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x)
        return super().forward(x.mean((2, 3)))


def test_evaluations_and_predictions_show_a_network_the_pixels_of_torchvision() -> None:
    net = Recorder(3, 4)
    net.seen = []
    classifier = Classifier(net, ClassifierSpec("resnet50", CLASSES, 3, *usual_input("resnet50", 3)))
    image = np.random.default_rng(0).integers(0, 256, (101, 150, 3)).astype(np.uint8)
    images = ImageSet(["a"], np.zeros(1, dtype=np.int64), lambda _: image)
    evaluate(classifier, images)
    HeldImages(images, classifier.spec, keep_mb=1).evaluate(classifier)
    list(predict(classifier, images))
    wanted = torchvision.models.ResNet50_Weights.DEFAULT.transforms()(Image.fromarray(image))
    for seen in net.seen:
        torch.testing.assert_close(seen, wanted[None], atol=1e-5, rtol=0)
    assert len(net.seen) == 3
