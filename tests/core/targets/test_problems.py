"""The same image in training and test, or under two classes: warned about with counts, by every command that opens a target."""

import numpy as np
import pytest
from miniatures import MINIATURES, png
from typer.testing import CliRunner

from ppcore.targets import find_problems, load_target
from ppcore.targets.target import ImageSet, Target
from ppgen.cli import app as ppgen
from pptrain.cli import app as pptrain


def write(root, name, value, size=(8, 8)):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(png(value, size))


@pytest.fixture
def clean(tmp_path):
    """Five images a class in training and two in test, all different."""
    value, root = 0, tmp_path / "target"
    for split, count in (("train", 5), ("test", 2)):
        for label in ("ant", "bee"):
            for number in range(count):
                value += 7
                write(root, f"{split}/{label}/{number}.png", value)
    return root


def test_nothing_is_said_of_a_clean_target(clean):
    assert find_problems(load_target(str(clean))) == []
    assert find_problems(load_target("digits")) == []


def test_test_images_among_the_training_images_are_counted(clean):
    write(clean, "train/ant/copy.png", 77)  # test/ant/0.png
    write(clean, "train/bee/copy.png", 91)
    (problem,) = find_problems(load_target(str(clean)))
    assert "2 of 4 test images are training images, too" in problem
    assert "train/ant/copy.png and test/ant/0.png" in problem


def test_one_image_under_two_classes_is_counted(clean):
    write(clean, "train/bee/copy.png", 7)  # train/ant/0.png
    write(clean, "train/ant/copy.png", 7)
    (problem,) = find_problems(load_target(str(clean)))
    assert "1 images are in two or more classes, 3 files in all" in problem
    assert "ant, bee" in problem


def test_equal_length_is_no_equality(clean):
    sizes = {path.stat().st_size for path in clean.rglob("*.png")}
    assert len(sizes) < 14
    assert find_problems(load_target(str(clean))) == []


def test_only_files_of_equal_length_are_read(clean, monkeypatch):
    write(clean, "train/bee/large.png", 3, (200, 100))
    read = []
    real = type(clean).read_bytes
    monkeypatch.setattr(type(clean), "read_bytes", lambda path: read.append(path.name) or real(path))
    find_problems(load_target(str(clean)))
    assert read
    assert "large.png" not in read


def test_images_in_memory_are_compared_too(tmp_path):
    MINIATURES["cifar10"](tmp_path)
    base = tmp_path / "cifar-10-batches-py"
    (base / "test_batch").write_bytes((base / "data_batch_1").read_bytes())
    (problem,) = find_problems(load_target(str(tmp_path)))
    assert "2 of 2 test images" in problem


def test_a_target_that_cannot_tell_its_bytes_has_no_problems():
    images = ImageSet(["a"], np.zeros(1, dtype=np.int64), lambda _: np.zeros((4, 4, 1), dtype=np.uint8))
    assert find_problems(Target("t", ("x",), images, images.select([0]))) == []


def test_commands_warn(clean, tmp_path, monkeypatch):
    write(clean, "train/ant/copy.png", 77)
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(ppgen, ["targets", str(clean)], catch_exceptions=False)
    assert "warning: target" in shown.output
    assert "classes by the folders" in shown.output
    trained = CliRunner().invoke(
        pptrain,
        f"run --target {clean} --arch mobile --steps 1 --batch-size 4 --device cpu --out run".split(),
        catch_exceptions=False,
    )
    assert trained.exit_code == 0, trained.output
    assert "training+test images: ant 6+2, bee 5+2" in trained.output
    assert "classes by the folders" in trained.output
    assert "are training images" not in trained.output  # a training run looks at none of them before its end
    judged = CliRunner().invoke(
        pptrain, f"eval run --target {clean} --device cpu".split(), catch_exceptions=False
    )
    assert "warning: target" in judged.output
    assert "1 of 4 test images are training images" in judged.output
