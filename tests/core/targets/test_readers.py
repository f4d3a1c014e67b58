import io
import json
import tarfile
from itertools import count

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ppcore.errors import UserError
from ppcore.images import Preparation
from ppcore.targets import decode_ahead, few_shot, load_target, stack


def png(value, size=(12, 10), mode="L"):
    buffer = io.BytesIO()
    Image.new(mode, size, value).save(buffer, "PNG")
    return buffer.getvalue()


def make_folder(root, splits=("",), per_class=10, mode="L"):
    for split in splits:
        for label, name in enumerate(("ant", "bee")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(per_class):
                value = 100 * label + i if mode == "L" else (100 * label + i, 0, 0)
                (folder / f"{i:02d}.png").write_bytes(png(value, (12 + i, 10), mode))


def write_parquet(path, labels, names=("ant", "bee")):
    rows = [{"bytes": png(10 * label), "path": None} for label in labels]
    info = {
        "info": {
            "features": {"picture": {"_type": "Image"}, "kind": {"_type": "ClassLabel", "names": list(names)}}
        }
    }
    schema = pa.schema(
        [("picture", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("kind", pa.int64())],
        metadata={"huggingface": json.dumps(info)},
    )
    pq.write_table(pa.table([pa.array(rows, schema.field(0).type), pa.array(labels)], schema=schema), path)


def test_digits_are_real_disjoint_and_stable():
    digits = load_target("digits")
    assert (len(digits.train), len(digits.test), digits.classes) == (897, 900, tuple("0123456789"))
    assert not set(digits.train.ids) & set(digits.test.ids)
    assert digits.train.image(0).shape == (32, 32, 1)
    assert np.bincount(digits.test.labels).min() > 70


def test_folder_with_splits(tmp_path):
    make_folder(tmp_path, ("train", "test"))
    target = load_target(str(tmp_path))
    assert target.classes == ("ant", "bee")
    assert len(target.train) == len(target.test) == 20
    assert all(name.startswith("test/") for name in target.test.ids)
    assert target.train.image(13).shape == (10, 15, 1)


def test_folder_without_splits_holds_out_a_fixed_fifth(tmp_path):
    make_folder(tmp_path)
    first, again = load_target(str(tmp_path)), load_target(str(tmp_path))
    assert (len(first.train), len(first.test)) == (16, 4)
    assert first.test.ids == again.test.ids
    assert not set(first.train.ids) & set(first.test.ids)
    for name, label, position in zip(first.train.ids, first.train.labels, range(16), strict=True):
        assert first.classes[label] in name
        assert first.train.image(position)[0, 0, 0] == 100 * label + int(name[-6:-4])


def test_rgb_folder(tmp_path):
    make_folder(tmp_path, mode="RGB")
    target = load_target(str(tmp_path))
    assert target.train.image(0).shape[2] == 3
    assert stack(target.train, 16, 1).shape == (16, 1, 16, 16)
    assert stack(target.train, 16, 3).shape == (16, 3, 16, 16)


def test_parquet_folder_and_explicit_files(tmp_path):
    write_parquet(tmp_path / "train-0.parquet", [0, 1, 1])
    write_parquet(tmp_path / "test-0.parquet", [1])
    for spec in (str(tmp_path), f"train={tmp_path}/train*.parquet,test={tmp_path}/test*.parquet"):
        target = load_target(spec)
        assert target.classes == ("ant", "bee")
        assert target.train.labels.tolist() == [0, 1, 1]
        assert target.test.labels.tolist() == [1]
        assert target.train.image(2)[0, 0, 0] == 10


def test_webdataset_tars(tmp_path):
    for split in ("train", "test"):
        with tarfile.open(tmp_path / f"{split}-0.tar", "w") as archive:
            for key, label in (("a", 0), ("b", 1)):
                for name, data in ((f"{key}.png", png(50 * label)), (f"{key}.cls", str(label).encode())):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    target = load_target(str(tmp_path))
    assert target.train.labels.tolist() == [0, 1]
    assert target.train.image(1)[0, 0, 0] == 50


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root / "nothing", "unknown target"),
        (lambda root: root, "has no images; expected"),
        (lambda root: f"train={root}/*.parquet", "nor an existing folder, file or pattern"),
    ],
)
def test_targets_that_cannot_be(tmp_path, make, message):
    with pytest.raises(UserError, match=message):
        load_target(str(make(tmp_path)))


def test_corrupt_image_is_named(tmp_path):
    make_folder(tmp_path)
    for path in (tmp_path / "bee").iterdir():
        path.write_bytes(path.read_bytes()[:40])
    target = load_target(str(tmp_path))
    with pytest.raises(UserError, match=r"bee/.*damaged"):
        stack(target.train, 8, 1)


def test_few_shot_is_nested_balanced_and_seeded():
    labels = np.repeat(np.arange(4), 30)
    two, five = few_shot(labels, 2, seed=1), few_shot(labels, 5, seed=1)
    assert set(two) < set(five)
    assert np.bincount(labels[two]).tolist() == [2, 2, 2, 2]
    assert two.tolist() == few_shot(labels, 2, seed=1).tolist()
    assert two.tolist() != few_shot(labels, 2, seed=2).tolist()
    assert len(few_shot(labels, None, seed=1)) == 120
    with pytest.raises(UserError, match="only 30"):
        few_shot(labels, 31, seed=1)


def test_distorted_copies_of_the_test_images_are_no_training_images(tmp_path):
    """As in the hub's Stanford Cars: splits of other names lie beside train and test."""
    for name, labels in (("train", [0, 1, 1]), ("test", [1]), ("contrast", [1]), ("validation", [0])):
        write_parquet(tmp_path / f"{name}-0.parquet", labels)
    target = load_target(str(tmp_path))
    assert (len(target.train), len(target.test)) == (3, 1)
    assert target.notes[1:] == (
        "the 1 images of val are not used",
        "other files are not used: 1 .parquet (contrast-0.parquet)",
    )


def test_shadow_files_of_macos_hold_no_rows(tmp_path):
    write_parquet(tmp_path / "images.parquet", [0, 1])
    (tmp_path / "._images.parquet").write_bytes(b"\0\5\26\7")
    assert len(load_target(str(tmp_path)).train) == 2


def test_images_decoded_ahead_are_those_of_the_stack(tmp_path):
    make_folder(tmp_path, ("train", "test"), per_class=6)
    images = load_target(str(tmp_path)).train
    parts = [[0, 3, 3], [11], range(4)]
    whole = stack(images, 8, 3)
    assert whole.is_contiguous()
    for part, batch in zip(parts, decode_ahead(images, parts, Preparation(8, 3)), strict=True):
        assert torch.equal(batch, whole[list(part)])
    assert stack(images.select([]), 8, 3).shape == (0, 3, 8, 8)


def test_a_damaged_image_ends_an_endless_sequence_of_parts(tmp_path):
    make_folder(tmp_path, ("train", "test"), per_class=6)
    images = load_target(str(tmp_path)).train
    (tmp_path / images.ids[5]).write_bytes(b"no image")
    batches = decode_ahead(images, ([i % 12] for i in count()), Preparation(8, 3))
    assert [next(batches)[0, 0, 0, 0].item() for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(UserError, match="is damaged"):
        next(batches)
