"""ppgen plan, extend, verify --repair and random access."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
from faint import call, told
from rig import fingerprints, flip, make_classifier, make_target, painted, stored, synth

from ppcore.errors import UserError
from ppcore.shards import ShardSet
from ppgen.plan.plan import Plan, Segment
from ppgen.shards.estimate import estimated_bytes, expected_passes, format_bytes
from ppgen.upkeep.verify import verify_directory

SYNTH = [
    "--source",
    "dummy:build",
    "--device",
    "cpu",
    "--classes",
    "0,2,5",
    "--seed",
    "3",
    "--batch-size",
    "8",
]
CUT = ["--samples-per-shard", "20"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """75 pictures in 4 shards, the last one short."""
    out = tmp_path_factory.mktemp("made") / "out"
    assert synth(out) == 0
    return out


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "out"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- plan


def test_a_dry_run_tells_the_cost_and_writes_nothing(here: Path, capsys) -> None:
    call("plan", "synth", *SYNTH, *CUT, "--per-class", "100", "--workers", "2", "--price-per-hour", "3600")
    out = capsys.readouterr().out
    assert "3 of 10 classes of dummy-build, 300 images of 16x16x1 as png" in out
    assert "15 shards of at most 20 images, batches of 8 -> runs/synth-dummy-build" in out
    assert "measured on 160 images" in out
    rate, both = map(float, re.findall(r"([\d.]+) images/s a worker on cpu, ([\d.]+) with 2 workers", out)[0])
    assert both == pytest.approx(2 * rate, rel=0.01)
    cost = float(re.findall(r"worker-hours, ([\d.]+) at 3600 an hour", out)[0])
    assert cost == pytest.approx(300 / rate, abs=0.01)
    assert not list(here.iterdir())


def test_estimated_bytes_are_those_of_the_directory(here: Path, capsys) -> None:
    call("plan", "synth", *SYNTH, *CUT, "--per-class", "100")
    number, unit = re.findall(r"about ([\d.]+) (\w+) in all", capsys.readouterr().out)[0]
    guess = float(number) * {"kB": 1e3, "MB": 1e6}[unit]
    call("synth", *SYNTH, *CUT, "--per-class", "100", "--out", "out")
    found = sum(p.stat().st_size for p in (here / "out").rglob("*") if p.suffix in (".tar", ".parquet"))
    assert guess == pytest.approx(found, rel=0.2)  # small shards are padded to 10 kB


def test_a_dry_run_of_pseudo_without_calibration(here: Path, capsys) -> None:
    target, classifier = make_target(here / "flowers"), make_classifier(here / "classifier")
    before = sorted(here.rglob("*"))
    args = [
        "--source",
        "dummy:build",
        "--target",
        str(target),
        "--classifier",
        str(classifier),
        "--device",
        "cpu",
    ]
    call("plan", "pseudo", *args, "--count", "70", "--no-calibrate")
    out = capsys.readouterr().out
    assert "soft conditions from 15 images of flowers over 10 classes" in out
    assert "a rough guess" in out
    assert "images/s" not in out
    call("plan", "pseudo", *args, "--count", "70")
    assert "images/s a worker" in capsys.readouterr().out
    assert sorted(here.rglob("*")) == before


def test_a_dry_run_on_a_begun_directory_counts_what_is_left(copy: Path, capsys) -> None:
    (copy / "commits/000001.json").unlink()
    call("plan", "synth", *SYNTH, *CUT, "--per-class", "25", "--out", str(copy), "--no-calibrate")
    assert "55 images are there already, 20 are left to make" in capsys.readouterr().out
    with pytest.raises(UserError, match="per_class 25 -> 26"):
        call("plan", "synth", *SYNTH, *CUT, "--per-class", "26", "--out", str(copy), "--no-calibrate")


@pytest.mark.parametrize("args", [["--per-class", "0"], ["--price-per-hour", "-1"], ["--workers", "0"]])
def test_wrong_dry_runs(here: Path, args: list[str]) -> None:
    with pytest.raises(UserError, match=f"{args[0]} is {args[1]}") as caught:
        call("plan", "synth", *SYNTH, *args)
    assert told(caught.value)


def redrawing(samples: int, batch: int, draws: int = 10) -> Plan:
    fields = {
        "source": {"class_names": ["a"]},
        "classes": (0,),
        "seed": 0,
        "encoding": {},
        "resolution": 8,
        "channels": 1,
    }
    rule = {"below": 0.5, "draws": draws}
    segments = (Segment(0, samples, samples),)
    return Plan(
        "synth", batch_size=batch, samples_per_shard=samples, segments=segments, redraw=rule, **fields
    )  # type: ignore[arg-type]


def test_expected_passes_and_units() -> None:
    assert expected_passes(redrawing(20, 8), 0.0) == 1
    # 20 samples in batches of 8: 3 passes, then 10 rejected ones, then 5, for which one batch is the least.
    assert expected_passes(redrawing(20, 8, draws=3), 0.5) == pytest.approx((3 + 10 / 8 + 1) / 3)
    assert expected_passes(redrawing(8, 8), 0.01) == pytest.approx(
        1.08
    )  # mostly none is rejected, else one batch does
    assert format_bytes(999) == "999 B"
    assert format_bytes(62.44e9) == "62.4 GB"


def test_rough_bytes_need_no_generator(made: Path) -> None:
    total, image = estimated_bytes(stored(made)[1], None)
    assert 0 < image < 256
    assert total > 75 * (1024 + image)


# ---- extend


def test_an_extension_leaves_every_committed_byte(copy: Path, made: Path) -> None:
    call("extend", str(copy), "--per-class", "40", "--device", "cpu")
    before, after = fingerprints(made), fingerprints(copy)
    for name in before:
        if name.startswith(("shards", "meta")):
            assert after[name] == before[name]
    for shard in range(4):
        name = f"commits/{shard:06d}.json"
        assert (copy / name).read_bytes() == (made / name).read_bytes()
    shards = ShardSet.open(str(copy))
    labels = [sample.label for shard in shards.shards for sample in shards.read(shard)]
    assert np.bincount(labels).tolist() == [40, 0, 40, 0, 0, 40]
    assert [s.samples for s in shards.shards] == [20, 20, 20, 15, 20, 20, 5]
    assert pq.read_table(copy / "manifest.parquet").column("index").to_pylist() == list(range(120))
    assert verify_directory(*stored(copy)).ok


def test_an_interrupted_extension_goes_on_with_the_same_command(copy: Path, tmp_path: Path, capsys) -> None:
    whole = Path(shutil.copytree(copy, tmp_path / "whole"))
    call("extend", str(whole), "--per-class", "40", "--device", "cpu")
    from ppgen.engines.inline import InlineEngine
    from ppgen.engines.run import prepare_job
    from ppgen.sources.spec import SourceSpec
    from ppgen.upkeep.extend import grow_plan, replace_plan

    store, plan = stored(copy)
    grown = grow_plan(plan, 40, None, None)
    replace_plan(store, plan, grown)
    InlineEngine().run(
        prepare_job(str(copy), grown, source=SourceSpec("dummy:build", device="cpu")), [4], lambda event: None
    )
    assert ShardSet.open(str(copy)).samples == 75  # the old index is still true
    capsys.readouterr()
    call("extend", str(copy), "--per-class", "40", "--device", "cpu")
    assert "resuming: 5 of 7 shards are there" in capsys.readouterr().err
    assert fingerprints(copy) == fingerprints(whole)
    call("extend", str(copy), "--per-class", "40", "--device", "cpu")
    assert "nothing was left to do" in capsys.readouterr().out
    assert fingerprints(copy) == fingerprints(whole)


def test_a_pseudo_set_grows_by_image_or_count(tmp_path: Path) -> None:
    from rig import pseudo

    target, classifier = make_target(tmp_path / "target"), make_classifier(tmp_path / "classifier")
    out = tmp_path / "out"
    assert pseudo(out, target, classifier) == 0
    before = fingerprints(out)
    call("extend", str(out), "--per-image", "6", "--device", "cpu")
    call("extend", str(out), "--count", "100", "--device", "cpu")
    store, plan = stored(out)
    assert plan.samples == 100
    assert verify_directory(store, plan).ok
    kept = {k: v for k, v in before.items() if k.startswith(("shards", "conditions"))}
    assert {k: v for k, v in fingerprints(out).items() if k in kept} == kept
    used = pq.read_table(out / "manifest.parquet").column("target_id").value_counts().to_pylist()
    assert {entry["counts"] for entry in used[:90]} <= {6, 7}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "give --per-class"),
        (["--count", "100"], "give --per-class"),
        (["--per-class", "20"], "less than the 25 samples a class"),
        (["--per-class", "0"], "--per-class is 0"),
        (["--per-class", "40", "--source", "dummy:nothing"], "has no"),
        (["--per-class", "40", "--source", "faint:build"], "not the one of the plan"),
        (["--per-class", "40", "--engine", "magic"], "unknown engine"),
    ],
)
def test_wrong_extensions_change_nothing(copy: Path, args: list[str], message: str) -> None:
    before = fingerprints(copy)
    with pytest.raises(UserError, match=message) as caught:
        call("extend", str(copy), "--device", "cpu", *args)
    assert told(caught.value)
    assert fingerprints(copy) == before


def test_a_directory_that_is_none_cannot_be_extended(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no shard directory"):
        call("extend", str(tmp_path), "--per-class", "5")


def test_a_directory_in_use_cannot_be_extended(copy: Path) -> None:
    from ppgen.shards.directory import exclusive

    before = (copy / "plan.json").read_bytes()
    with exclusive(stored(copy)[0]), pytest.raises(UserError, match="another ppgen is writing"):
        call("extend", str(copy), "--per-class", "40", "--device", "cpu")
    assert (copy / "plan.json").read_bytes() == before


# ---- verify --repair


def test_repair_queues_bad_shards_and_the_same_command_makes_them(copy: Path, made: Path, capsys) -> None:
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
        "2 of 4 shards are queued again, 1 files outside the plan are gone; repeat the ppgen command" in out
    )
    assert sorted(p.name for p in (copy / "commits").iterdir()) == ["000000.json", "000003.json"]
    with pytest.raises(UserError, match="is not finished"):
        ShardSet.open(str(copy))
    call("synth", *SYNTH, *CUT, "--per-class", "25", "--out", str(copy))
    (copy / "shards/notes.txt").unlink()  # not ours: left alone
    assert fingerprints(copy) == fingerprints(made)
    call("verify", str(copy), "--repair")


def test_verify_without_repair_touches_nothing(copy: Path) -> None:
    flip(copy / "shards/000001.tar", 700)
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    with pytest.raises(typer.Exit):
        call("verify", str(copy))
    assert {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()} == before


# ---- random access


@pytest.mark.parametrize("remote", [False, True])
def test_any_sample_is_read_alone(made: Path, remote: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(made)
    if remote:
        import fsspec

        root = "memory://bucket/fetch"
        fsspec.filesystem("memory").put(str(made), root, recursive=True)
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
def test_unknown_samples_are_refused(made: Path, name: int | str) -> None:
    with pytest.raises(UserError, match="has no sample") as caught:
        ShardSet.open(str(made)).fetch(name)
    assert told(caught.value)


def test_a_damaged_shard_is_refused_by_random_access(copy: Path) -> None:
    shards = ShardSet.open(str(copy))
    (copy / "shards/000001.tar").unlink()
    with pytest.raises(UserError, match="cannot be found"):
        shards.fetch(25)
    one, two = copy / "shards/000002.tar", copy / "shards/000003.tar"
    one.write_bytes(two.read_bytes())
    with pytest.raises(UserError, match=r"does not hold sample|truncated"):
        shards.fetch(40)


def test_plain_webdataset_takes_the_explicit_list(made: Path) -> None:
    import webdataset

    shards = ShardSet.open(str(made))
    samples = list(webdataset.WebDataset(shards.urls, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [f"{i:09d}" for i in range(75)]
    listed = [
        str(made / entry["url"]) for entry in json.loads((made / "index.json").read_text())["shardlist"]
    ]
    assert listed == shards.urls


def test_wids_opens_the_index(made: Path, tmp_path: Path) -> None:
    """wids ships with webdataset up to 0.2.111; later releases dropped it."""
    wids = pytest.importorskip("wids")
    dataset = wids.ShardListDataset(str(made / "index.json"), cache_dir=str(tmp_path), transformations=[])
    shards = ShardSet.open(str(made))
    assert len(dataset) == 75
    for position in (0, 19, 20, 74, 33):
        sample, ours = dataset[position], shards.fetch(position)
        assert sample["__key__"] == ours.key
        assert sample[".png"].getvalue() == ours.image
        assert int(sample[".cls"].getvalue()) == ours.label


# ---- the dataset card


def test_the_card_names_what_made_the_samples(made: Path) -> None:
    import dataclasses

    from ppgen.shards.card import write_card

    _, plan = stored(made)
    sampling = {"solver": "dpmpp", "steps": 20, "guidance": 1.5, "guidance_interval": [0.1, 2.0]}
    source = {**plan.source, "revision": "abc123", "licence": "CC-BY-NC-4.0", "sampling": sampling}
    card = write_card(
        dataclasses.replace(plan, source=source), [{"torch": "2.11", "diffusers": "0.42"}], 0, 0
    )
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
    assert "pptransfer" in (made / "README.md").read_text()
