"""Runs of ppgen pseudo with the painter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from rig import (
    fingerprints,
    painted,
    pseudo,
    stored,
)

from ppcore.errors import UserError
from ppcore.shards import ShardSet
from ppgen.plan.conditions import Conditions


def test_every_soft_label_matches_its_image(workshop: tuple[Path, Path], tmp_path: Path) -> None:
    assert pseudo(tmp_path / "out", *workshop) == 0
    shards = ShardSet.open(str(tmp_path / "out"), kind="pseudo")
    store, plan = stored(tmp_path / "out")
    table = Conditions.from_parquet(store.read("conditions.parquet"), plan)
    rows = pq.read_table(tmp_path / "out/manifest.parquet").to_pylist()
    raw = [sample for shard in shards.shards for sample in shards.read(shard)]
    assert len(raw) == len(rows) == 5 * len(table.target_ids)
    by_id = dict(zip(table.target_ids, table.soft, strict=True))
    for sample, row in zip(raw, rows, strict=True):
        assert sample.label is None
        assert sample.soft is not None
        assert np.abs(painted(sample.image) - sample.soft).max() <= 0.5 / 255 + 1e-6
        assert (sample.soft == by_id[row["target_id"]]).all()
        assert row["soft_classes"][0] == sample.soft.argmax()
        assert np.isclose(row["norm"], np.linalg.norm(sample.soft))
        assert row["class"] is None


@pytest.mark.parametrize("mode", ["draw", "uniform"])
def test_drawn_labels_are_one_hot_and_match(workshop: tuple[Path, Path], tmp_path: Path, mode: str) -> None:
    assert pseudo(tmp_path / "out", *workshop, condition=mode, count=33) == 0
    shards = ShardSet.open(str(tmp_path / "out"))
    rows = pq.read_table(tmp_path / "out/manifest.parquet").to_pylist()
    raw = [sample for shard in shards.shards for sample in shards.read(shard)]
    assert len(raw) == 33
    for sample, row in zip(raw, rows, strict=True):
        assert sample.soft is not None
        assert painted(sample.image).argmax() == sample.soft.argmax() == row["class"]


def test_pseudo_repeats_and_refuses_other_conditions(workshop: tuple[Path, Path], tmp_path: Path) -> None:
    assert pseudo(tmp_path / "a", *workshop) == 0
    assert pseudo(tmp_path / "b", *workshop) == 0
    assert fingerprints(tmp_path / "a") == fingerprints(tmp_path / "b")
    (tmp_path / "b" / "conditions.parquet").unlink()
    assert pseudo(tmp_path / "b", *workshop) == 0
    assert fingerprints(tmp_path / "a") == fingerprints(tmp_path / "b")
    with pytest.raises(UserError, match=r"condition.temperature 1.0 -> 2.0"):
        pseudo(tmp_path / "a", *workshop, temperature=2.0)
    with pytest.raises(UserError, match=r"target\.images"):
        pseudo(tmp_path / "a", *workshop, labels_per_class=2, per_image=None, count=75)


def test_few_labels_keep_the_images_the_trainer_keeps(workshop: tuple[Path, Path], tmp_path: Path) -> None:
    from ppcore.targets import few_shot, load_target

    assert pseudo(tmp_path / "out", *workshop, labels_per_class=2, label_seed=7) == 0
    train = load_target(str(workshop[0])).train
    kept = [train.ids[i] for i in few_shot(train.labels, 2, 7)]
    used = pq.read_table(tmp_path / "out/conditions.parquet").column("target_id").to_pylist()
    assert used == kept
    assert len(used) == 6
