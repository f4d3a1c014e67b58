"""Other people's programs open a directory, and its card tells how."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from rig import (
    pseudo,
)


def test_opens_with_tar_and_webdataset(made: Path) -> None:
    import webdataset

    index = json.loads((made / "index.json").read_text())
    assert (index["wids_version"], sum(s["nsamples"] for s in index["shardlist"])) == (1, 75)
    urls = [str(made / shard["url"]) for shard in index["shardlist"]]
    with tarfile.open(urls[0]) as archive:
        assert archive.getnames()[:4] == ["000000000.png", "000000000.cls", "000000001.png", "000000001.cls"]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("l8").to_tuple("png", "cls"))
    assert len(samples) == 75
    assert all(image.reshape(16, 16)[0, label] == 255 for image, label in samples)


def test_opens_with_hugging_face_datasets(
    made: Path, workshop: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    from datasets import load_dataset

    urls = sorted(map(str, made.glob("shards/*.tar")))
    rows = list(load_dataset("webdataset", data_files=urls, split="train", streaming=True))
    assert len(rows) == 75
    assert all(np.asarray(row["png"])[0, int(row["cls"])] == 255 for row in rows)
    pseudo(tmp_path / "pseudo", *workshop)
    urls = sorted(map(str, (tmp_path / "pseudo").glob("shards/*.tar")))
    row = next(iter(load_dataset("webdataset", data_files=urls, split="train", streaming=True)))
    soft = (
        np.load(io.BytesIO(row["soft.npy"]))
        if isinstance(row["soft.npy"], bytes)
        else np.asarray(row["soft.npy"])
    )
    assert np.abs(painted_array(row["png"]) - soft).max() < 0.01


def painted_array(image: object) -> np.ndarray:
    return np.asarray(image)[0, :10] / 255.0


def test_card_names_source_licence_and_readers(made: Path) -> None:
    card = (made / "README.md").read_text()
    for word in ("CC0-1.0", "dummy-build", "webdataset", "load_dataset", "pyarrow", "Fingerprint", "torch"):
        assert word in card
    assert str(made) not in card
