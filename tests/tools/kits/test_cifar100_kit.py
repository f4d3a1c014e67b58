"""The builder of the colour kit: a few images become a kit that ppgen samples."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ppcore.classifiers import ClassifierSpec, build, save_classifier
from ppgen.generators import load_generator
from tools.kits import cifar100


def test_a_handful_of_images_becomes_a_kit_that_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    rng = np.random.default_rng(0)
    for name in ("apple", "bear"):
        folder = tmp_path / "data/train" / name
        folder.mkdir(parents=True)
        for number in range(4):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    spec = ClassifierSpec(
        "small", ("apple", "bear"), channels=3, resolution=32, mean=(0.5,) * 3, std=(0.5,) * 3
    )
    save_classifier(tmp_path / "classifier", build("small", 2, 3), spec)
    monkeypatch.setattr(cifar100, "WIDTHS", (8, 16, 16))
    cifar100.build(
        str(tmp_path / "data"), tmp_path / "classifier", tmp_path / "kit", steps=2, guidance_steps=1, batch=4
    )
    generator = load_generator(str(tmp_path / "kit"), device="cpu")
    images = generator.sample(torch.eye(2), torch.tensor([1, 2]))
    assert images.shape == (2, 3, 32, 32)
    assert generator.num_classes == 2
