"""Runs of ppgen synth with the painter: bytes, retries, resuming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from rig import (
    fingerprints,
    make_classifier,
    painted,
    stored,
    synth,
    synth_job,
    worker_of,
)

from ppcore.errors import UserError
from ppcore.shards import ShardSet
from ppgen.engines import make_shards
from ppgen.engines.events import Event
from ppgen.options import HERE, EngineOptions, ShardOptions
from ppgen.shards.directory import pending_shards
from ppgen.shards.worker import Job, Worker
from ppgen.sources.protocol import SourceSpec
from ppgen.upkeep.verify import verify_directory


def test_every_label_matches_its_image(made: Path) -> None:
    shards = ShardSet.open(str(made), kind="synth")
    assert (shards.samples, shards.classes, shards.num_classes) == (75, [0, 2, 5], 10)
    seen = []
    for shard in shards.shards:
        for sample in shards.read(shard):
            row = painted(sample.image)
            assert row.argmax() == sample.label
            assert row.sum() == 1.0
            seen.append(sample.label)
    assert np.bincount(seen).tolist() == [25, 0, 25, 0, 0, 25]


def test_manifest_rows_say_what_the_tar_holds(made: Path) -> None:
    rows = pq.read_table(made / "manifest.parquet").to_pylist()
    assert [row["index"] for row in rows] == list(range(75))
    assert len({row["sha256"] for row in rows}) == 75
    for row in rows:
        data = (made / f"shards/{row['shard']:06d}.tar").read_bytes()
        image = data[row["offset"] : row["offset"] + row["bytes"]]
        assert painted(image).argmax() == row["class"]
        assert (row["entropy"], row["norm"], row["confidence"], row["target_id"]) == (0, 1, None, None)


def test_images_differ_between_seeds_and_not_between_batch_mates(made: Path, tmp_path: Path) -> None:
    synth(tmp_path / "other", settings=ShardOptions(seed=4, batch_size=8, samples_per_shard=20))
    ours, theirs = (
        pq.read_table(d / "manifest.parquet").column("sha256") for d in (made, tmp_path / "other")
    )
    assert not set(ours.to_pylist()) & set(theirs.to_pylist())


def test_a_second_run_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    synth(tmp_path / "again")
    assert fingerprints(tmp_path / "again") == fingerprints(made)


def test_processes_give_the_same_bytes_and_survive_a_killed_one(made: Path, tmp_path: Path) -> None:
    """Two workers; one is killed once it has committed a shard."""
    import multiprocessing
    import os
    import signal

    events: list[Event] = []

    def on_event(event: Event) -> None:
        if event.event == "committed" and not any(e.event == "committed" for e in events):
            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)
        events.append(event)

    spec = SourceSpec("dummy:build", device="cpu", sampling={"delay": 0.01})
    assert synth(tmp_path / "out", EngineOptions(workers=2), on_event, spec=spec) == 0
    assert sorted(e.shard or 0 for e in events if e.event == "committed") == [0, 1, 2, 3]
    assert sum(e.event == "missed" for e in events) <= 2
    plain = {k: v for k, v in fingerprints(made).items() if k.startswith(("shards", "meta", "manifest"))}
    assert {k: v for k, v in fingerprints(tmp_path / "out").items() if k in plain} == plain


def test_a_finished_directory_is_left_alone(made: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in made.glob("shards/*")}
    assert synth(made) == 0
    assert {p: p.stat().st_mtime_ns for p in made.glob("shards/*")} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"per_class": 26}, "per_class 25 -> 26"),
        ({"classes": "0,2,6"}, r"classes \[3: 0, 2, 5\] -> \[3: 0, 2, 6\]"),
        ({"settings": ShardOptions(seed=4, batch_size=8, samples_per_shard=20)}, "seed 3 -> 4"),
        ({"settings": ShardOptions(seed=3, batch_size=9, samples_per_shard=20)}, "batch_size 8 -> 9"),
        ({"spec": SourceSpec("dummy:build", device="cpu", sampling={"version": 2})}, "source.version 1 -> 2"),
    ],
)
def test_a_changed_request_is_refused_by_name(made: Path, change: dict[str, object], message: str) -> None:
    before = fingerprints(made)
    with pytest.raises(UserError, match=message):
        synth(made, **change)  # type: ignore[arg-type]
    assert fingerprints(made) == before


def test_a_failing_shard_is_tried_again_and_changes_nothing(made: Path, tmp_path: Path) -> None:
    (tmp_path / "fail").write_text("2")
    spec = SourceSpec("dummy:build", device="cpu", sampling={"fail": str(tmp_path / "fail")})
    assert synth(tmp_path / "out", spec=spec) == 0
    ours, theirs = ((d / "shards/000000.tar").read_bytes() for d in (tmp_path / "out", made))
    assert ours == theirs


def test_a_shard_that_fails_for_good_is_reported_with_its_plan_row(tmp_path: Path, capsys) -> None:
    (tmp_path / "fail").write_text("1000")
    spec = SourceSpec("dummy:build", device="cpu", sampling={"fail": str(tmp_path / "fail")})
    assert synth(tmp_path / "out", spec=spec) == 1
    message = capsys.readouterr().err
    assert "4 of 4 shards failed: shard 0 (samples 0 to 19, seed 3)" in message
    assert "the painter's hand slipped" in message
    assert not (tmp_path / "out" / "index.json").exists()
    (tmp_path / "fail").write_text("0")
    assert synth(tmp_path / "out", spec=spec) == 0


def test_failed_events_carry_the_error(tmp_path: Path) -> None:
    (tmp_path / "fail").write_text("1000")
    spec = SourceSpec("dummy:build", device="cpu", sampling={"fail": str(tmp_path / "fail")})
    job = synth_job(tmp_path / "out", spec=spec)
    events: list[Event] = []
    outcome = make_shards(job, [1], HERE, events.append)
    missed = [e for e in events if e.event == "missed"]
    assert [e.again for e in missed] == [True, True, False]
    assert all("the painter's hand slipped" in (e.text or "") and not e.died for e in missed)
    assert len({e.place for e in missed}) == 3  # a worker is replaced after an exception
    assert [e.shard for e in events if e.event == "failed"] == [1]
    assert list(outcome.failed) == [1]


def test_only_what_is_missing_is_made_again(made: Path, tmp_path: Path) -> None:
    import shutil

    out = tmp_path / "out"
    shutil.copytree(made, out)
    store, plan = stored(out)
    (out / "shards/000001.tar").unlink()
    (out / "meta/000002.parquet").write_bytes(b"short")
    (out / "commits/000003.json").write_text("{}")
    (out / "shards/.tmp-left-by-a-killed-run").write_text("x")
    assert pending_shards(store, plan) == [1, 2, 3]
    assert synth(out) == 0
    assert fingerprints(out) == fingerprints(made)


def test_scores_are_the_classifiers_probability_of_the_condition(tmp_path: Path) -> None:
    classifier = make_classifier(tmp_path / "classifier")
    spec = SourceSpec("dummy:build", device="cpu", classifier=str(classifier), trust_code=True)
    settings = ShardOptions(seed=3, batch_size=8, samples_per_shard=20, score=True)
    assert synth(tmp_path / "out", spec=spec, settings=settings) == 0
    found = pq.read_table(tmp_path / "out/manifest.parquet").column("confidence").to_numpy()
    expected = np.exp(10) / (np.exp(10) + 9 * np.exp(-10))  # logits 10 at the label, -10 elsewhere
    assert np.allclose(found, expected)


def test_an_object_store_gets_the_same_bytes(made: Path) -> None:
    """Through fsspec's memory file system."""
    out = "memory://bucket/out"
    assert synth(out) == 0
    store, plan = stored(out)
    assert verify_directory(store, plan).ok
    assert store.read("manifest.parquet") == (made / "manifest.parquet").read_bytes()
    assert all(
        store.read(f"shards/{i:06d}.tar") == (made / f"shards/{i:06d}.tar").read_bytes() for i in range(4)
    )
    with pytest.raises(UserError, match="seed 3 -> 4"):
        synth(out, settings=ShardOptions(seed=4, batch_size=8, samples_per_shard=20))


def test_a_worker_with_another_generator_refuses_the_plan(made: Path) -> None:
    _, plan = stored(made)
    with pytest.raises(UserError, match=r"not the one of the plan \(they differ in version\)"):
        Worker(Job(plan, str(made), SourceSpec("dummy:build", device="cpu", sampling={"version": 2})))
    worker_of(made).close()
