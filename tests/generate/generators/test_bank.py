"""A bank of labelled images as a source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ppcore.errors import UserError
from ppcore.shards import ShardSet
from ppcore.targets import read_files
from ppgen.generators import load_generator
from ppgen.generators.bank import ImageBank


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of 4, 6 and 1 RGB images, the pixel value telling class and number."""
    for label, count in enumerate((4, 6, 1)):
        (tmp_path / "bank" / f"c{label}").mkdir(parents=True)
        for number in range(count):
            pixels = np.full((20, 24, 3), 40 * label + number, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "bank" / f"c{label}" / f"{number}.png")
    return tmp_path / "bank"


def bank(folder: Path, **options: object) -> ImageBank:
    made = load_generator(f"bank:{folder}", device="cpu", sampling=options)
    assert isinstance(made, ImageBank)
    return made


def test_images_are_of_the_class_asked_for(folder: Path) -> None:
    generator = bank(folder)
    assert (generator.num_classes, generator.resolution, generator.channels) == (3, 20, 3)
    labels = torch.arange(3).repeat(20)
    images = generator.sample(torch.nn.functional.one_hot(labels, 3).float(), torch.arange(60))
    assert images.shape == (60, 3, 20, 20)
    assert torch.equal(images[:, 0, 0, 0].long() // 40, labels)
    assert len(torch.unique(images[labels == 1][:, 0, 0, 0])) > 3  # more than one image of a class


def test_soft_conditions_are_mixtures_and_seeds_decide(folder: Path) -> None:
    generator = bank(folder, channels=1, resolution=16)
    condition = torch.tensor([[0.5, 0.5, 0.0]]).expand(400, -1)
    images = generator.sample(condition, torch.arange(400))
    assert images.shape == (400, 1, 16, 16)
    share = (images[:, 0, 0, 0].long() // 40 == 0).float().mean()
    assert 0.4 < share < 0.6
    assert not (images[:, 0, 0, 0].long() // 40 == 2).any()
    alone = torch.cat([generator.sample(condition[:1], torch.tensor([s])) for s in (3, 250)])
    assert torch.equal(alone, images[[3, 250]])


def test_other_images_are_another_source(folder: Path) -> None:
    before = bank(folder).describe()
    path = next(folder.glob("c2/*.png"))
    Image.fromarray(np.zeros((20, 24, 3), dtype=np.uint8)).save(path)
    assert bank(folder).describe()["images_sha256"] != before["images_sha256"]


def test_one_odd_image_in_front_changes_neither_size_nor_colour(folder: Path) -> None:
    Image.fromarray(np.zeros((5, 6), dtype=np.uint8)).save(folder / "c0" / "+.png")
    generator = bank(folder)
    assert (generator.resolution, generator.channels) == (20, 3)


def test_what_is_no_bank_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a known name"):
        load_generator(f"bank:{tmp_path / 'nowhere'}")
    with pytest.raises(UserError, match="unknown sampling option"):
        bank(folder, steps=3)


def test_test_images_stay_out(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "split").mkdir()
    folder.rename(tmp_path / "split" / "train")
    (tmp_path / "split" / "test" / "c0").mkdir(parents=True)
    Image.fromarray(np.full((20, 24, 3), 255, dtype=np.uint8)).save(
        tmp_path / "split" / "test" / "c0" / "x.png"
    )
    generator = bank(tmp_path / "split")
    assert len(read_files(str(tmp_path / "split")).train) == 11
    images = generator.sample(torch.eye(3)[:1].expand(50, -1), torch.arange(50))
    assert int(images.max()) < 255


def test_a_bank_makes_shards(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from ppgen.cli import app

    monkeypatch.chdir(tmp_path)
    options = ["synth", "--source", f"bank:{folder}", "--per-class", "4", "--out", "out", "--workers", "1"]
    result = CliRunner().invoke(app, options, catch_exceptions=False)
    assert result.exit_code == 0
    assert ShardSet.open("out").samples == 12
    assert CliRunner().invoke(app, ["verify", "out"]).exit_code == 0
