"""ppgen merge: several directories as one, and the proof that it is them."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
from faint import call, sentence
from rig import fingerprints, flip, make_classifier, make_target, painted, pseudo, recommit, synth

from ppcore.errors import UserError
from ppcore.shards import ShardSet
from ppcore.storage import Store
from ppgen.plan.request import Settings
from ppgen.shards.state import read_any_plan
from ppgen.upkeep.merge import merge_directories
from ppgen.upkeep.renumber import renumber_tar
from ppgen.upkeep.report import Report
from ppgen.upkeep.verify import verify_directory


def seeded(seed: int) -> Settings:
    return Settings(seed=seed, batch_size=8, samples_per_shard=20)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """75 samples of classes 0, 2, 5; 50 of 2, 7; 12 of 9, in JPEG."""
    base = tmp_path_factory.mktemp("parts")
    synth(base / "a")
    synth(base / "b", classes="2,7", settings=seeded(4))
    synth(base / "c", classes="9,", per_class=12, settings=Settings(5, 8, 20, "jpg"))
    return [str(base / name) for name in "abc"]


@pytest.fixture(scope="module")
def whole(parts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("merged") / "out"
    assert merge_directories(parts, str(out)) == 0
    return out


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "out"))


def check(out: Path) -> Report:
    store = Store(out)
    return verify_directory(store, read_any_plan(store))  # type: ignore[arg-type]


def test_renumbering_changes_names_and_nothing_else(parts: list[str]) -> None:
    before = Path(parts[1], "shards/000000.tar").read_bytes()
    after = renumber_tar(before, 123456)
    assert renumber_tar(after, -123456) == before
    with tarfile.open(fileobj=io.BytesIO(before)) as old, tarfile.open(fileobj=io.BytesIO(after)) as new:
        for one, two in zip(old, new, strict=True):
            assert int(two.name.split(".")[0]) == int(one.name.split(".")[0]) + 123456
            assert (two.offset_data, two.size, two.mtime) == (one.offset_data, one.size, 0)
            assert old.extractfile(one).read() == new.extractfile(two).read()  # type: ignore[union-attr]


def test_the_merged_set_is_its_parts_one_after_the_other(parts: list[str], whole: Path) -> None:
    merged, sets = ShardSet.open(str(whole), kind="synth"), [ShardSet.open(part) for part in parts]
    assert (merged.samples, merged.classes, merged.num_classes) == (137, [0, 2, 5, 7, 9], 10)
    expected = [sample for part in sets for shard in part.shards for sample in part.read(shard)]
    found = [sample for shard in merged.shards for sample in merged.read(shard)]
    assert [s.key for s in found] == [f"{i:09d}" for i in range(137)]
    assert [(s.image, s.label, s.extension) for s in found] == [
        (s.image, s.label, s.extension) for s in expected
    ]
    rows = pq.read_table(whole / "manifest.parquet").to_pylist()
    assert [(row["key"], row["index"]) for row in rows] == [(f"{i:09d}", i) for i in range(137)]
    for position in (0, 74, 75, 124, 125, 136):
        sample = merged.fetch(position)
        assert sample.image == expected[position].image
        assert rows[position]["class"] == sample.label
        if sample.extension == "png":
            assert painted(sample.image).argmax() == sample.label


def test_shards_whose_keys_stay_are_links_and_the_rest_is_ours(parts: list[str], whole: Path) -> None:
    assert os.path.samefile(whole / "shards/000000.tar", Path(parts[0], "shards/000000.tar"))
    assert not os.path.samefile(whole / "shards/000004.tar", Path(parts[1], "shards/000000.tar"))
    assert len(list((whole / "shards").iterdir())) == 4 + 3 + 1


def test_other_readers_open_it(whole: Path) -> None:
    import webdataset

    keys = [s["__key__"] for s in webdataset.WebDataset(ShardSet.open(str(whole)).urls, shardshuffle=False)]
    assert len(set(keys)) == 137
    card = (whole / "README.md").read_text()
    assert "Part 3: samples 125 to 136" in card
    assert "CC0-1.0" in card


def test_it_verifies_and_every_damage_is_found(whole: Path, copy: Path) -> None:
    report = check(whole)
    assert report.ok, report
    assert report.checked == 137
    call("verify", str(whole))
    flip(copy / "shards/000005.tar", 700)
    flip(copy / "meta/000001.parquet", 900)
    assert set(check(copy).shards) == {1, 5}


def test_a_consistent_forgery_of_labels_is_found(copy: Path) -> None:
    path = copy / "shards/000005.tar"
    data = bytearray(path.read_bytes())
    start = data.index(b".cls") - 9
    data[start + 512] = ord("2") if data[start + 512] != ord("2") else ord("7")
    path.write_bytes(bytes(data))
    recommit(copy, 5)
    assert set(check(copy).shards) == {5}


def test_a_repaired_or_interrupted_merge_goes_on_with_the_same_command(
    parts: list[str], copy: Path, whole: Path, capsys
) -> None:
    flip(copy / "shards/000005.tar", 700)
    with pytest.raises(typer.Exit):
        call("verify", str(copy), "--repair")
    assert "1 of 8 shards are queued again; repeat the ppgen command" in capsys.readouterr().out
    call("merge", *parts, "--out", str(copy))
    assert fingerprints(copy) == fingerprints(whole)
    assert check(copy).ok


def test_pseudo_sets_with_their_conditions(tmp_path: Path) -> None:
    target, classifier = make_target(tmp_path / "target"), make_classifier(tmp_path / "classifier")
    pseudo(tmp_path / "a", target, classifier)
    pseudo(tmp_path / "b", target, classifier, settings=seeded(4), mode="draw", temperature=2.0, per_image=2)
    call("merge", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out"))
    merged = ShardSet.open(str(tmp_path / "out"), kind="pseudo")
    assert merged.samples == 75 + 30
    soft = [sample.soft for shard in merged.shards for sample in merged.read(shard)]
    assert np.allclose([s.sum() for s in soft], 1, atol=1e-5)
    assert check(tmp_path / "out").ok
    flip(tmp_path / "out/conditions.parquet", 40)
    assert not check(tmp_path / "out").ok


def test_through_an_object_store(parts: list[str], whole: Path) -> None:
    assert merge_directories(parts, "memory://bucket/merged") == 0
    store = Store("memory://bucket/merged")
    assert store.read("shards/000004.tar") == (whole / "shards/000004.tar").read_bytes()


def test_repeated_images_are_counted(parts: list[str], tmp_path: Path, capsys) -> None:
    synth(tmp_path / "more", classes="0,2", per_class=25)  # the same seed: some samples come out the same
    call("merge", parts[0], str(tmp_path / "more"), "--out", str(tmp_path / "out"))
    assert "repeat another image byte for byte" in capsys.readouterr().out


def unlike(base: Path) -> dict[str, list[str]]:
    a = str(base / "a")
    target, classifier = make_target(base / "target"), make_classifier(base / "classifier")
    synth(a)
    pseudo(base / "pseudo", target, classifier)
    shutil.copytree(a, base / "twin")
    shutil.copytree(a, base / "half")
    (base / "half/index.json").unlink()
    shutil.copytree(a, base / "torn")
    (base / "torn/shards/000001.tar").write_bytes(b"x")
    synth(base / "b", settings=seeded(4))
    merge_directories([a, str(base / "b")], str(base / "merged"))
    return {
        "give at least two": [a],
        "differ in kind": [a, str(base / "pseudo")],
        "hold the same samples": [a, str(base / "twin")],
        "is not finished": [a, str(base / "half")],
        "has missing or damaged shards": [str(base / "b"), str(base / "torn")],
        "is no shard directory": [a, str(base / "nothing")],
        "was merged from 2 directories": [str(base / "merged"), a],
    }


def test_what_cannot_be_merged_is_refused(tmp_path: Path) -> None:
    for message, directories in unlike(tmp_path).items():
        with pytest.raises(UserError, match=message) as caught:
            call("merge", *directories, "--out", str(tmp_path / "out"))
        assert sentence(caught.value)
        assert not (tmp_path / "out").exists()


def test_a_merged_directory_is_no_place_for_other_commands(
    parts: list[str], whole: Path, tmp_path: Path
) -> None:
    before = fingerprints(whole)
    with pytest.raises(UserError, match="was merged from 3 directories"):
        call("extend", str(whole), "--per-class", "100")
    with pytest.raises(UserError, match="was merged from 3 directories"):
        call("synth", "--source", "dummy:build", "--out", str(whole))
    with pytest.raises(UserError, match="with another request"):
        call("merge", *parts[:2], "--out", str(whole))
    with pytest.raises(UserError, match="is merged; verify the directories"):
        call("verify", str(whole), "--regenerate", "3")
    with pytest.raises(UserError, match="was not made by ppgen"):
        (tmp_path / "taken").write_text("x")
        call("merge", *parts, "--out", str(tmp_path))
    assert fingerprints(whole) == before
