"""Every layout of a well-known data set, as a miniature: splits, classes and pixels; and what is damaged is refused with its name."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from miniatures import MINIATURES, SIZES, cars_one_list, grey, jpg

from ppcore.errors import UserError
from ppcore.targets import NAMED, load_target
from ppcore.targets import named_table as table

CLASSES = {
    "cars": ("Acura RL", "Volvo C30"),
    "aircraft": ("707-320", "Boeing 717"),
    "cub": ("Black_footed_Albatross", "Laysan_Albatross"),
    "dtd": ("banded", "zigzagged"),
    "flowers": ("pink primrose", "hard-leaved pocket orchid"),
    "pets": ("Abyssinian", "american_bulldog"),
    "dogs": ("Chihuahua", "Japanese_spaniel"),
    "indoor67": ("airport_inside", "winecellar"),
    "caltech256-60": ("001.ak47", "002.american-flag"),
    "food101": ("apple_pie", "waffles"),
    "eurosat": ("AnnualCrop", "SeaLake"),
    "cifar10": ("airplane", "automobile"),
    "cifar100": ("apple", "aquarium_fish"),
    "mnist": ("0", "1"),
}


@pytest.fixture(params=MINIATURES)
def miniature(request, tmp_path, monkeypatch):
    """(name, directory): a miniature and a table that knows how small it is."""
    name = request.param
    root = tmp_path / "somewhere"
    MINIATURES[name](root)
    classes, train, test = SIZES[name]
    monkeypatch.setitem(table.NAMED, name, replace(NAMED[name], classes=classes, train=train, test=test))
    return name, root


def test_all_named_targets_have_a_miniature():
    assert set(NAMED) - set(MINIATURES) == {"digits"}


def test_a_genuine_layout_is_read(miniature):
    name, root = miniature
    target = load_target(f"{name}={root}")
    assert target.name == name
    assert target.classes == CLASSES[name]
    assert (len(target.train), len(target.test)) == SIZES[name][1:]
    assert not set(target.train.ids) & set(target.test.ids)
    for images in (target.train, target.test):
        assert images.labels.dtype == np.int64
        for position, label in enumerate(images.labels):
            value = int(images.image(position)[0, 0, 0])
            assert round((value - 40) / 100) == label or name.startswith("caltech")
    if name not in ("caltech256-60", "eurosat"):
        found = sorted(round(float(target.test.image(i).mean())) for i in range(2))
        assert np.abs(np.array(found) - [grey(0, 2), grey(1, 2)]).max() <= 1


def test_it_is_found_where_copies_are_kept(miniature, monkeypatch):
    name, root = miniature
    root.rename(root.parent / name)
    monkeypatch.setenv("PPTRANSFER_DATA", str(root.parent))
    assert len(load_target(name).train) == SIZES[name][1]


def test_the_layout_is_known_again_without_the_name(miniature):
    name, root = miniature
    found = load_target(f"mine={root}")
    assert (found.name, found.classes) == ("mine", CLASSES[name])


def test_an_incomplete_copy_is_refused(miniature, monkeypatch):
    name, root = miniature
    monkeypatch.setitem(table.NAMED, name, replace(table.NAMED[name], train=SIZES[name][1] + 1))
    with pytest.raises(UserError, match=rf"complete it, or .*my-{name}="):
        load_target(f"{name}={root}")


def test_caltech_leaves_out_clutter_and_stray_files(tmp_path):
    MINIATURES["caltech256-60"](tmp_path)
    target = load_target(f"mine={tmp_path}")
    names = target.train.ids + target.test.ids
    assert len(names) == 124
    assert not any("clutter" in name or "greg" in name for name in names)


def test_cars_as_one_list(tmp_path):
    cars_one_list(tmp_path)
    target = load_target(f"mine={tmp_path}")
    assert target.classes == CLASSES["cars"]
    assert target.test.ids == ["car_ims/000002.jpg", "car_ims/100002.jpg"]


def test_cars_without_test_labels_say_which_file_is_missing(tmp_path):
    MINIATURES["cars"](tmp_path)
    (tmp_path / "cars_test_annos_withlabels.mat").unlink()
    with pytest.raises(UserError, match=r"cars_test_annos_withlabels\.mat is missing"):
        load_target(f"cars={tmp_path}")


@pytest.mark.parametrize(
    "name", ["cars", "aircraft", "cub", "dtd", "flowers", "pets", "dogs", "indoor67", "food101"]
)
def test_a_listed_image_that_is_missing_is_named(name, tmp_path):
    MINIATURES[name](tmp_path)
    lost = load_target(f"mine={tmp_path}").train.encoded(1)
    lost.unlink()
    with pytest.raises(UserError, match=r"1 listed images are missing") as caught:
        load_target(f"mine={tmp_path}")
    assert lost.name in str(caught.value)


def test_a_list_reaches_nothing_outside(tmp_path):
    MINIATURES["indoor67"](tmp_path / "data")
    jpg(tmp_path / "secret" / "x.jpg", 5)
    (tmp_path / "data" / "TrainImages.txt").write_text("../../secret/x.jpg\n")
    with pytest.raises(UserError, match="outside"):
        load_target(str(tmp_path / "data"))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cars", "devkit/cars_meta.mat"),
        ("dogs", "train_list.mat"),
        ("flowers", "setid.mat"),
        ("cifar10", "cifar-10-batches-py/test_batch"),
        ("cifar100", "cifar-100-python/meta"),
        ("mnist", "MNIST/raw/train-images-idx3-ubyte.gz"),
        ("mnist", "MNIST/raw/t10k-labels-idx1-ubyte"),
        ("pets", "annotations/trainval.txt"),
    ],
)
@pytest.mark.parametrize("cut", [0.5, 0.01])
def test_a_damaged_list_is_one_sentence(name, file, cut, tmp_path):
    MINIATURES[name](tmp_path)
    data = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(data[: int(len(data) * cut)] + b"\x00\xff")
    with pytest.raises(UserError):
        load_target(str(tmp_path))


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    MINIATURES["cifar10"](tmp_path)
    sprung = tmp_path / "sprung"

    class Trap:
        def __reduce__(self):
            return (open, (str(sprung), "w"))

    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps({"data": Trap()}))
    with pytest.raises(UserError, match="would run"):
        load_target(str(tmp_path))
    assert not sprung.exists()
