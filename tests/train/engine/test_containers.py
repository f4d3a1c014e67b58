"""The same images in every container give the same target and the same trained weights.

With photographs, in the directory of the files clothing-{train,validation,test}.parquet:

    PHOTOGRAPHS=DIRECTORY pytest tests/train/engine/test_containers.py
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from trainruns import run, same_weights

from ppcore.targets import Target, load_target
from pptrain.data.labeled import fingerprint

SPLITS = ("train", "validation", "test")
Images = list[tuple[str, str, str, bytes]]  # split, class, name, encoded image


def drawn() -> Images:
    rng = np.random.default_rng(0)
    images = []
    for split, count in zip(SPLITS, (6, 2, 3), strict=True):
        for label in ("dog", "ant", "été"):
            for number in range(count):
                data = io.BytesIO()
                Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(data, "PNG")
                images.append((split, label, f"{label[0]}{number:02d}.png", data.getvalue()))
    order = rng.permutation(len(images))
    return [images[position] for position in order]


def photographs(folder: Path) -> Images:
    images = []
    for split in SPLITS:
        table = pq.read_table(folder / f"clothing-{split}.parquet")
        features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
        for row in table.to_pylist():
            image = row["image"]
            name = Path(image["path"]).name
            images.append((split, features["label"]["names"][row["label"]], name, image["bytes"]))
    return images


def as_folder(images: Images, root: Path) -> str:
    for split, label, name, data in images:
        place = root / split / label / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return str(root)


def as_zip(images: Images, root: Path) -> str:
    return shutil.make_archive(str(root / "photos"), "zip", as_folder(images, root / "photos"))


def as_tar(images: Images, root: Path) -> str:
    as_folder(images, root / "photos")
    with tarfile.open(root / "photos.tar.gz", "w:gz", compresslevel=1) as archive:
        archive.add(root / "photos", "photos")
    return str(root / "photos.tar.gz")


def as_csv(images: Images, root: Path) -> str:
    (root / "images").mkdir()
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, delimiter=";")
        writer.writerow(["file_name", "label", "split"])
        for split, label, name, data in images:
            (root / "images" / name).write_bytes(data)
            writer.writerow([name, label, split])
    return str(root / "labels.csv")


def as_metadata(images: Images, root: Path) -> str:
    """The layout `imagefolder` of Hugging Face with metadata files."""
    for split in SPLITS:
        (root / split).mkdir()
        lines = []
        for own, label, name, data in images:
            if own == split:
                (root / split / name).write_bytes(data)
                lines.append(json.dumps({"file_name": name, "label": label}, ensure_ascii=False))
        (root / split / "metadata.jsonl").write_text("\n".join(lines), "utf-8")
    return str(root)


def as_parquet(images: Images, root: Path) -> str:
    for split in SPLITS:
        rows = [
            {"image": {"bytes": data, "path": name}, "label": label}
            for own, label, name, data in images
            if own == split
        ]
        pq.write_table(pa.Table.from_pylist(rows), root / f"{split}-00000-of-00001.parquet", row_group_size=7)
    return str(root)


def as_webdataset(images: Images, root: Path) -> str:
    for split in SPLITS:
        with tarfile.open(root / f"{split}-000.tar", "w") as archive:
            for own, label, name, data in images:
                if own == split:
                    stem, _, suffix = name.partition(".")
                    for member, content in ((f"{stem}.{suffix}", data), (f"{stem}.cls", label.encode())):
                        info = tarfile.TarInfo(member)
                        info.size = len(content)
                        archive.addfile(info, io.BytesIO(content))
    return str(root)


CONTAINERS: tuple[Callable[[Images, Path], str], ...] = (
    as_folder,
    as_zip,
    as_tar,
    as_csv,
    as_metadata,
    as_parquet,
    as_webdataset,
)


def unique_names(images: Images) -> Images:
    """Tables and tars of one split need names of their own."""
    return [
        (split, label, f"{position:05d}-{name}", data)
        for position, (split, label, name, data) in enumerate(images)
    ]


def as_it_is(_images: Images, _root: Path) -> str:
    return f"{os.environ['PHOTOGRAPHS']}/clothing-*.parquet"


@pytest.fixture(params=["drawn", "photographs"])
def images(request: pytest.FixtureRequest) -> Images:
    if request.param == "drawn":
        return unique_names(drawn())
    if "PHOTOGRAPHS" not in os.environ:
        pytest.skip("PHOTOGRAPHS names no directory")
    return photographs(Path(os.environ["PHOTOGRAPHS"]))


def facts(target: Target) -> tuple[object, ...]:
    sets = (target.train, target.test)
    counts = [np.bincount(part.labels).tolist() for part in sets]
    return target.classes, counts, [fingerprint(part) for part in sets]


def test_every_container_gives_the_same_target_and_weights(images: Images, tmp_path: Path) -> None:
    expected: tuple[object, ...] | None = None
    containers = CONTAINERS if len(images) < 1000 else (*CONTAINERS, as_it_is)
    for make in containers:
        root = tmp_path / make.__name__
        root.mkdir()
        spec = make(images, root)
        target = load_target(spec)
        assert facts(target) == (expected or facts(target)), make.__name__
        assert not target.doubts, make.__name__
        expected = facts(target)
        settings = {"model.arch": "mobile", "data.resolution": 32, "optim.steps": 3, "optim.batch_size": 6}
        run(
            settings,
            **{"data.target": spec, "loop.device": "cpu", "out": str(tmp_path / f"run-{make.__name__}")},
        )
        first = tmp_path / f"run-{CONTAINERS[0].__name__}"
        assert same_weights(first, tmp_path / f"run-{make.__name__}"), make.__name__
    assert expected is not None
    labels = sorted({label for _, label, _, _ in images})
    assert expected[0] == tuple(labels)
