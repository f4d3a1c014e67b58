"""verify --repair, random access, the dataset card."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from faint import call, sentence
from rig import SYNTH, fingerprints, flip, painted, stored

from ppcore.errors import UserError
from ppcore.shards import ShardSet

# ---- verify --repair


def test_repair_queues_bad_shards_and_the_same_command_makes_them(copy: Path, sound: Path, capsys) -> None:
    flip(copy / "shards/000001.tar", 700)
    (copy / "meta/000002.parquet").write_bytes(b"")
    (copy / "shards/000077.tar").write_bytes(b"x")
    (copy / "shards/notes.txt").write_text("mine")
    with pytest.raises(typer.Exit) as caught:
        call("verify", str(copy), "--repair")
    assert caught.value.exit_code == 1
    out = capsys.readouterr().out
    assert "2 of 4 shards are bad: [1, 2]" in out
    assert (
        "2 of 4 shards are queued again, 1 files outside the plan were deleted; repeat the ppgen command"
        in out
    )
    assert sorted(p.name for p in (copy / "commits").iterdir()) == ["000000.json", "000003.json"]
    with pytest.raises(UserError, match="is not finished"):
        ShardSet.open(str(copy))
    call("synth", *SYNTH, "--per-class", "25", "--out", str(copy))
    (copy / "shards/notes.txt").unlink()  # not ours: left alone
    assert fingerprints(copy) == fingerprints(sound)
    call("verify", str(copy), "--repair")


def test_verify_without_repair_touches_nothing(copy: Path) -> None:
    flip(copy / "shards/000001.tar", 700)
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    with pytest.raises(typer.Exit):
        call("verify", str(copy))
    assert {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()} == before


# ---- random access


@pytest.mark.parametrize("remote", [False, True])
def test_any_sample_is_read_alone(sound: Path, remote: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(sound)
    if remote:
        import fsspec

        root = "memory://bucket/fetch"
        fsspec.filesystem("memory").put(str(sound), root, recursive=True)
    shards = ShardSet.open(root)
    whole = [sample for shard in shards.shards for sample in shards.read(shard)]
    reads: list[int] = []
    original = type(shards.store).read_range
    monkeypatch.setattr(
        type(shards.store),
        "read_range",
        lambda s, name, start, length: (reads.append(length), original(s, name, start, length))[1],
    )
    for position in np.random.default_rng(0).permutation(75):
        expected = whole[position]
        for name in (int(position), expected.key):
            found = shards.fetch(name)
            assert (found.key, found.image, found.label, found.offset) == (
                expected.key,
                expected.image,
                expected.label,
                expected.offset,
            )
            assert painted(found.image).argmax() == found.label
    assert len(reads) == 150
    assert np.median(reads) < 3000  # of tars of 40 kB


@pytest.mark.parametrize("name", [75, -1, "000000075", "x", "0 "])
def test_unknown_samples_are_refused(sound: Path, name: int | str) -> None:
    with pytest.raises(UserError, match="has no sample") as caught:
        ShardSet.open(str(sound)).fetch(name)
    assert sentence(caught.value)


def test_a_damaged_shard_is_refused_by_random_access(copy: Path) -> None:
    shards = ShardSet.open(str(copy))
    (copy / "shards/000001.tar").unlink()
    with pytest.raises(UserError, match="cannot be found"):
        shards.fetch(25)
    one, two = copy / "shards/000002.tar", copy / "shards/000003.tar"
    one.write_bytes(two.read_bytes())
    with pytest.raises(UserError, match=r"does not hold sample|truncated"):
        shards.fetch(40)


def test_plain_webdataset_takes_the_explicit_list(sound: Path) -> None:
    import webdataset

    shards = ShardSet.open(str(sound))
    samples = list(webdataset.WebDataset(shards.urls, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [f"{i:09d}" for i in range(75)]
    listed = [
        str(sound / entry["url"]) for entry in json.loads((sound / "index.json").read_text())["shardlist"]
    ]
    assert listed == shards.urls


def test_wids_opens_the_index(sound: Path, tmp_path: Path) -> None:
    """wids ships with webdataset up to 0.2.111; later releases dropped it."""
    wids = pytest.importorskip("wids")
    dataset = wids.ShardListDataset(str(sound / "index.json"), cache_dir=str(tmp_path), transformations=[])
    shards = ShardSet.open(str(sound))
    assert len(dataset) == 75
    for position in (0, 19, 20, 74, 33):
        sample, ours = dataset[position], shards.fetch(position)
        assert sample["__key__"] == ours.key
        assert sample[".png"].getvalue() == ours.image
        assert int(sample[".cls"].getvalue()) == ours.label


# ---- the dataset card


def test_the_card_names_what_made_the_samples(sound: Path) -> None:
    import dataclasses

    from ppgen.shards.card import write_card

    _, plan = stored(sound)
    sampling = {"solver": "dpmpp", "steps": 20, "guidance": 1.5, "guidance_interval": [0.1, 2.0]}
    source = {**plan.source, "revision": "abc123", "licence": "CC-BY-NC-4.0", "sampling": sampling}
    card = write_card(dataclasses.replace(plan, source=source), [{"torch": "2.11", "diffusers": "0.42"}])
    for line in (
        'license_name: "CC-BY-NC-4.0"',
        "| Licence of the generator | CC-BY-NC-4.0 |",
        "| Revision | abc123 |",
        "| Sampling: Solver | dpmpp |",
        "| Sampling: Steps | 20 |",
        "| Sampling: Guidance | 1.5 |",
        "| Libraries | torch 2.11, diffusers 0.42 |",
        "| Seed | 3 |",
    ):
        assert line in card
    assert "pptransfer" in (sound / "README.md").read_text()
