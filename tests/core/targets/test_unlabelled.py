"""Images to predict are read from the same places as targets, by the same code."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ppcore.errors import UserError
from ppcore.targets import open_images

COLOURS = (10, 60, 200)


def png(value: int) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.full((4, 4), value, dtype=np.uint8)).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "my photos"
    folder.mkdir()
    for number, value in enumerate(COLOURS):
        (folder / f"{number}.png").write_bytes(png(value))
    (folder / "notes.txt").write_text("no image")
    return folder


def as_files(photos: Path) -> list[str]:
    return [str(photos / f"{number}.png") for number in range(3)]


def as_pattern(photos: Path) -> list[str]:
    return [f"{photos}/*.png"]


def as_csv(photos: Path) -> list[str]:
    (photos / "list.csv").write_text("photo;size\n0.png;4\n1.png;4\n\n2.png;4\n", "utf-16")
    return [f"{photos}/list.csv?image-column=photo"]


def as_json_lines(photos: Path) -> list[str]:
    lines = [json.dumps({"file_name": f"{number}.png"}) for number in range(3)]
    (photos / "list.jsonl").write_text("\n".join(lines))
    return [str(photos / "list.jsonl")]


def as_parquet(photos: Path) -> list[str]:
    pq.write_table(pa.table({"image": [png(value) for value in COLOURS]}), photos.parent / "p.parquet")
    return [str(photos.parent / "p.parquet")]


def as_folder_of_parquet(photos: Path) -> list[str]:
    (photos.parent / "data").mkdir()
    shutil.move(as_parquet(photos)[0], photos.parent / "data" / "p.parquet")
    return [str(photos.parent / "data")]


def as_tar(photos: Path) -> list[str]:
    with tarfile.open(photos.parent / "p.tar.gz", "w:gz") as archive:
        archive.add(photos, "photos")
    return [str(photos.parent / "p.tar.gz")]


def as_zip(photos: Path) -> list[str]:
    return [shutil.make_archive(str(photos.parent / "p"), "zip", photos)]


@pytest.mark.parametrize(
    "make",
    [
        lambda photos: [str(photos)],
        as_files,
        as_pattern,
        as_csv,
        as_json_lines,
        as_parquet,
        as_folder_of_parquet,
        as_tar,
        as_zip,
    ],
)
def test_every_place_gives_the_same_images(make, photos):
    images = open_images(make(photos))
    assert [int(images.image(position)[0, 0, 0]) for position in range(len(images))] == list(COLOURS)
    assert len(set(images.ids)) == 3


def test_a_list_on_standard_input(photos, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(as_files(photos)) + "\n\n"))
    assert open_images(["-"]).ids == as_files(photos)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("gone.png", "no file or folder gone.png"),
        ("*.gone", "no file matches this pattern"),
        ("list.csv", "row 2, lists 'gone.png', which does not exist below"),
        ("other.csv", "has the columns a, b, expected files or images"),
        ("empty", "there are no images in empty"),
    ],
)
def test_places_without_images(place, message, photos, monkeypatch):
    monkeypatch.chdir(photos)
    (photos / "empty").mkdir()
    (photos / "list.csv").write_text("file\ngone.png\n")
    (photos / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=message):
        open_images([place])
