"""What a run is made from: training, validation and test images apart, weights to start from, refusals that write nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from toyshards import CLASSES, ShardWriter
from trainruns import Settings, bad

from ppcore.classifiers import ClassifierSpec, build, save_classifier
from ppcore.targets import load_target
from pptrain.config import load_config
from pptrain.engine.prepare import PreparedRun, prepare_run
from pptrain.engine.process_group import ProcessGroup


def test_training_validation_and_test_images_are_disjoint(supervised: Settings, tmp_path: Path) -> None:
    settings = {**supervised, "data.labels_per_class": 8, "data.val_fraction": 0.25, "out": str(tmp_path)}
    settings |= {"data.unlabeled": f"target:{supervised['data.target']}", "method.name": "uda"}
    task = prepare_run(load_config(overrides=settings), ProcessGroup("cpu"))
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


def test_init_copies_the_backbone(supervised: Settings, tmp_path: Path) -> None:
    spec = ClassifierSpec("small", ("x", "y", "z"), 1, 16)
    source = build("small", 3, 1)
    save_classifier(tmp_path / "m", source, spec)
    config = load_config(overrides={**supervised, "model.init": str(tmp_path / "m"), "out": "x"})
    net = prepare_run(config, ProcessGroup("cpu")).net
    for name, tensor in source.state_dict().items():
        if not name.startswith("fc."):
            assert torch.equal(tensor, net.state_dict()[name])
    assert net.state_dict()["fc.weight"].shape[0] == len(CLASSES)


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
    bad({**supervised, "data.unlabeled": pseudo, "method.name": "supervised"}, "or add --method uda", out)
    bad({**supervised, "method.name": "uda"}, "needs unlabelled images", out)
    bad({**supervised, "method.name": "soft-target"}, "needs a teacher", out)
    bad({**supervised, "model.init": str(tmp_path)}, "no model directory", out)
    bad({**supervised, "data.labels_per_class": 13}, "lower --labels-per-class", out)
    bad({**supervised, "loop.device": "cuda:99"}, "cuda", out)
    bad({**supervised, "optim.lr": -1}, "optim.lr", out)
    bad({}, "no training data", out)
    colour = write_shards("colour", [5], kind="pseudo", channels=3)
    bad({**uda, "data.unlabeled": str(colour), "data.channels": 1}, "RGB images but the model takes 1", out)


def test_a_target_that_gives_no_test_or_no_task_is_refused(supervised: Settings, tmp_path: Path) -> None:
    settings, root = {**supervised, "data.labels_per_class": 0}, tmp_path / "few"
    for name in CLASSES:
        shutil.copytree(Path(str(supervised["data.target"])) / "train" / name, root / name)
        for file in sorted((root / name).iterdir())[4:]:
            file.unlink()
    bad(
        {**settings, "data.target": str(root)},
        "has no test images; give it a test split, or at least 5",
        tmp_path / "r",
    )
    for name in CLASSES[1:]:
        shutil.rmtree(root / name)
    bad({**settings, "data.target": str(root)}, "training images of one class only", tmp_path / "r")


def test_one_grey_file_in_front_does_not_make_a_run_grey(supervised: Settings, tmp_path: Path) -> None:
    root = Path(str(supervised["data.target"]))

    def prepared() -> PreparedRun:
        return prepare_run(load_config(overrides={**supervised, "out": "x"}), ProcessGroup("cpu"))

    assert prepared().spec.channels == 1
    assert "1 input channel: the training images are grey" in prepared().notes
    for file in sorted(root.rglob("*.png"))[1:]:
        Image.open(file).convert("RGB").save(file)
    assert prepared().spec.channels == 3
    assert "3 input channels: there are training images in colour" in prepared().notes


def test_imbalanced_classes_are_trained_by_default(supervised: Settings) -> None:
    root = Path(str(supervised["data.target"])) / "train"
    for name, count in zip(CLASSES, (60, 40, 2, 1), strict=True):
        first = sorted((root / name).iterdir())[0]
        for file in sorted((root / name).iterdir())[count:]:
            file.unlink()
        for number in range(12, count):
            shutil.copy(first, root / name / f"{number:03d}.png")
    config = load_config(overrides={**supervised, "data.labels_per_class": 0, "out": "x"})
    task = prepare_run(config, ProcessGroup("cpu"))
    assert task.val is not None
    assert np.bincount(task.val.labels, minlength=4).tolist() == [6, 4, 0, 0]
    assert task.labeled.samples == 93
    assert "2 classes have too few labelled images to give any to validation" in task.notes


def test_weights_that_do_not_fit(supervised: Settings, tmp_path: Path) -> None:
    out, model = tmp_path / "r", tmp_path / "m"
    save_classifier(model, build("small", 4, 1), ClassifierSpec("small", CLASSES, 1, 16))
    state = load_file(model / "model.safetensors")
    del state["stem.0.weight"]
    save_file(state, model / "model.safetensors")
    bad({**supervised, "model.init": str(model)}, "1 keys missing such as stem.0.weight", out)
    save_classifier(model, build("small", 3, 1), ClassifierSpec("small", ("x", "y", "z"), 1, 16))
    settings = {**supervised, "method.name": "soft-target", "model.teacher": str(model)}
    bad(settings, "has 3 other classes than the 4", out)
    bad({**supervised, "model.init": str(model), "model.arch": "resnet18"}, "is a small, not a resnet18", out)
    bad({**supervised, "model.init": str(model), "data.channels": 3}, "takes 1 channels, not 3", out)
