"""`ppgen extend`: higher totals, and every committed byte stays."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from faint import call, sentence
from rig import fingerprints, make_classifier, make_target, pseudo, stored

from ppcore.errors import UserError
from ppcore.shards import ShardSet
from ppgen.engines import make_shards, prepare_job
from ppgen.options import HERE
from ppgen.shards.directory import exclusive
from ppgen.sources.protocol import SourceSpec
from ppgen.upkeep.extend import grow_plan, replace_plan
from ppgen.upkeep.verify import verify_directory

OWN = ("--source", "dummy:build", "--trust-code")  # what the directory's plan may not ask for by itself


def test_an_extension_leaves_every_committed_byte(copy: Path, sound: Path) -> None:
    call("extend", str(copy), *OWN, "--per-class", "40", "--device", "cpu")
    before, after = fingerprints(sound), fingerprints(copy)
    for name in before:
        if name.startswith(("shards", "meta")):
            assert after[name] == before[name]
    for shard in range(4):
        name = f"commits/{shard:06d}.json"
        assert (copy / name).read_bytes() == (sound / name).read_bytes()
    shards = ShardSet.open(str(copy))
    labels = [sample.label for shard in shards.shards for sample in shards.read(shard)]
    assert np.bincount(labels).tolist() == [40, 0, 40, 0, 0, 40]
    assert [s.samples for s in shards.shards] == [20, 20, 20, 15, 20, 20, 5]
    assert pq.read_table(copy / "manifest.parquet").column("index").to_pylist() == list(range(120))
    assert verify_directory(*stored(copy)).ok


def test_an_interrupted_extension_goes_on_with_the_same_command(copy: Path, tmp_path: Path, capsys) -> None:
    whole = Path(shutil.copytree(copy, tmp_path / "whole"))
    call("extend", str(whole), *OWN, "--per-class", "40", "--device", "cpu")
    store, plan = stored(copy)
    grown = grow_plan(plan, 40, None, None)
    replace_plan(store, plan, grown)
    job = prepare_job(str(copy), grown, source=SourceSpec("dummy:build", device="cpu"))
    make_shards(job, [4], HERE, lambda event: None)
    assert ShardSet.open(str(copy)).samples == 75  # the old index is still true
    capsys.readouterr()
    call("extend", str(copy), *OWN, "--per-class", "40", "--device", "cpu")
    assert "resuming: 5 of 7 shards are there" in capsys.readouterr().err
    assert fingerprints(copy) == fingerprints(whole)
    call("extend", str(copy), *OWN, "--per-class", "40", "--device", "cpu")
    assert "nothing was left to do" in capsys.readouterr().out
    assert fingerprints(copy) == fingerprints(whole)


def test_a_pseudo_set_grows_by_image_or_count(tmp_path: Path) -> None:
    target, classifier = make_target(tmp_path / "target"), make_classifier(tmp_path / "classifier")
    out = tmp_path / "out"
    assert pseudo(out, target, classifier) == 0
    before, own = fingerprints(out), (*OWN, "--classifier", str(classifier))
    call("extend", str(out), *own, "--per-image", "6", "--device", "cpu")
    call("extend", str(out), *own, "--count", "100", "--device", "cpu")
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
        (["--per-class", "40", "--source", "dummy:nothing"], "cannot import 'dummy:nothing'"),
        (["--per-class", "40", "--source", "letters"], "not the one of the plan"),
        (["--per-class", "40", "--engine", "magic"], "unknown engine"),
    ],
)
def test_wrong_extensions_change_nothing(copy: Path, args: list[str], message: str) -> None:
    before = fingerprints(copy)
    with pytest.raises(UserError, match=message) as caught:
        call("extend", str(copy), *OWN, "--device", "cpu", *args)
    assert sentence(caught.value)
    assert fingerprints(copy) == before


def test_a_directory_that_is_none_cannot_be_extended(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no shard directory"):
        call("extend", str(tmp_path), "--per-class", "5")


def test_a_directory_in_use_cannot_be_extended(copy: Path) -> None:
    before = (copy / "plan.json").read_bytes()
    with exclusive(stored(copy)[0]), pytest.raises(UserError, match="another ppgen is writing"):
        call("extend", str(copy), *OWN, "--per-class", "40", "--device", "cpu")
    assert (copy / "plan.json").read_bytes() == before
