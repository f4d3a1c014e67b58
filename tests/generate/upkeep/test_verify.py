from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rig import flip, make_classifier, make_target, pseudo, recommit, stored, synth, worker_of

from ppgen.upkeep.verify import regenerate_samples, verify_directory


def test_a_sound_directory_passes(sound: Path) -> None:
    report = verify_directory(*stored(sound))
    assert report.ok
    assert report.checked == 75


def torn(out: Path) -> None:
    path = out / "shards/000001.tar"
    path.write_bytes(path.read_bytes()[:20_000])


def flipped_byte(out: Path) -> None:
    flip(out / "shards/000001.tar", 700)


def relabelled(out: Path) -> None:
    """The label in the tar changed, everything else made to agree."""
    path = out / "shards/000001.tar"
    data = bytearray(path.read_bytes())
    start = data.index(b".cls") - 9
    data[start + 512] = ord("2") if data[start + 512] != ord("2") else ord("5")
    path.write_bytes(bytes(data))
    recommit(out, 1)


def lying_column(name: str, value: object) -> Callable[[Path], None]:
    def tamper(out: Path) -> None:
        path = out / "meta/000001.parquet"
        table = pq.read_table(path)
        values = table.column(name).to_pylist()
        values[3] = value
        place = table.schema.get_field_index(name)
        changed = table.set_column(
            place, table.schema.field(name), pa.array(values, type=table.schema.field(name).type)
        )
        pq.write_table(changed, path)
        recommit(out, 1)

    return tamper


def swapped_shards(out: Path) -> None:
    for folder, suffix in (("shards", "tar"), ("meta", "parquet")):
        one, two = out / f"{folder}/000001.{suffix}", out / f"{folder}/000002.{suffix}"
        first, second = one.read_bytes(), two.read_bytes()
        one.write_bytes(second)
        two.write_bytes(first)
    recommit(out, 1)
    recommit(out, 2)


def missing_tar(out: Path) -> None:
    (out / "shards/000001.tar").unlink()


def duplicated_row(out: Path) -> None:
    path = out / "meta/000001.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), path)
    recommit(out, 1)


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (torn, "truncated"),
        (flipped_byte, "sha256"),
        (relabelled, "is labelled"),
        (lying_column("class", 5), "is wrong in column 'class'"),
        (lying_column("sha256", "0" * 64), "is wrong in column 'sha256'"),
        (lying_column("offset", 77), "is wrong in column 'offset'"),
        (lying_column("seed", 77), "is wrong in column 'seed'"),
        (lying_column("confidence", 0.5), "confidences"),
        (swapped_shards, "other samples than planned"),
        (missing_tar, "lacks shards/000001.tar"),
        (duplicated_row, "21 rows"),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", "case"),
)
def test_every_damage_is_found_in_its_shard(copy: Path, tamper: Callable[[Path], None], message: str) -> None:
    tamper(copy)
    report = verify_directory(*stored(copy))
    assert 1 in report.shards
    assert message in "; ".join(report.shards[1])
    assert set(report.shards) <= {1, 2}


def test_a_shard_without_record_is_not_made_yet(copy: Path) -> None:
    (copy / "commits/000001.json").unlink()
    problems = verify_directory(*stored(copy))
    assert (problems.missing, problems.ok) == ([1], False)
    assert not problems.shards


def test_a_lying_manifest_index_or_stray_file_is_found(copy: Path) -> None:
    table = pq.read_table(copy / "manifest.parquet")
    with pq.ParquetWriter(copy / "manifest.parquet", table.schema) as writer:
        for first in (0, 40, 20, 60):  # shards 1 and 2 exchanged
            writer.write_table(table.slice(first, 20))
    index = json.loads((copy / "index.json").read_text())
    index["shardlist"][0]["nsamples"] = 21
    (copy / "index.json").write_text(json.dumps(index))
    (copy / "shards/000099.tar").write_bytes(b"")
    report = verify_directory(*stored(copy))
    assert set(report.shards) == {1, 2}
    assert any("index.json does not match" in message for message in report.general)
    assert any("outside the plan" in message for message in report.general)


def test_images_can_be_sampled_again(sound: Path, copy: Path) -> None:
    worker = worker_of(sound)
    assert regenerate_samples(worker, stored(sound)[0], 30, seed=0).ok
    worker.close()


def test_a_consistent_forgery_fails_only_regeneration(copy: Path, tmp_path: Path) -> None:
    """Images of another seed under this plan, every checksum redone: only sampling again can tell."""
    from ppgen.options import ShardOptions

    synth(tmp_path / "other", settings=ShardOptions(seed=4, batch_size=8, samples_per_shard=20))
    forged = tmp_path / "forged"
    forge(copy, tmp_path / "other", forged)
    store, _ = stored(forged)
    worker = worker_of(forged)
    found = regenerate_samples(worker, store, 75, seed=0)
    worker.close()
    assert set(found.shards) == {0}
    assert len(found.shards[0]) == 20


def forge(ours: Path, theirs: Path, forged: Path) -> None:
    """Our directory with the pixels of shard 0 replaced by those of another seed, labels and checksums kept consistent."""
    import io

    from ppcore.shards.tars import iter_tar
    from ppgen.plan.conditions import condition_rows
    from ppgen.shards.finalize import finalize
    from ppgen.shards.pack import Samples, pack

    shutil.copytree(ours, forged)
    store, plan = stored(forged)
    images = [s.image for s in iter_tar(io.BytesIO((theirs / "shards/000000.tar").read_bytes()))]
    rows = plan.sample_rows(0)
    condition, label = condition_rows(plan, rows, None)
    tar, meta = pack(plan, 0, Samples(rows, condition, label, images))
    (forged / "shards/000000.tar").write_bytes(tar)
    (forged / "meta/000000.parquet").write_bytes(meta)
    recommit(forged, 0)
    finalize(store, plan)
    assert verify_directory(store, plan).ok


def test_a_pseudo_set_with_changed_conditions_is_found(tmp_path: Path) -> None:
    target, classifier = make_target(tmp_path / "target"), make_classifier(tmp_path / "classifier")
    assert pseudo(tmp_path / "out", target, classifier) == 0
    store, plan = stored(tmp_path / "out")
    assert verify_directory(store, plan).ok
    worker = worker_of(tmp_path / "out")
    assert regenerate_samples(worker, store, 10, seed=1).ok
    worker.close()
    flip(tmp_path / "out/conditions.parquet", 100)
    assert any("sha256 differs" in message for message in verify_directory(store, plan).general)
