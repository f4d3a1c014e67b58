"""Soft labels of target images are found whatever the target was read from."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from toyshards import CLASSES, ShardWriter

from pptrain.data import open_conditions, open_shard_pool
from pptrain.data.shard_pool import ConditionTable


def table(*names: str) -> ConditionTable:
    rows = {name: row for row, name in enumerate(names)}
    return ConditionTable(("a", "b"), torch.eye(2)[: len(names)], torch.zeros(0, dtype=torch.int64), rows)


def test_images_are_found_by_name_and_else_by_unique_stem() -> None:
    known = table("train/cat/1.png", "train/dog/2.png")
    assert known.of_targets(["train/dog/2.png"]).tolist() == [[0.0, 1.0]]
    assert known.of_targets(["photos.zip/2", "1"]).tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert known.of_targets(["3"]) is None


def test_names_that_are_not_unique_are_not_guessed() -> None:
    known = table("train/cat/1.png", "train/dog/1.png")
    assert known.of_targets(["1"]) is None
    assert known.of_targets(["train/dog/1.png"]).tolist() == [[0.0, 1.0]]


def test_samples_of_drawn_classes_come_with_the_soft_labels_of_their_targets(
    write_shards: ShardWriter,
) -> None:
    """`--condition draw` and `uniform`: without them there is no control with the same soft labels."""
    root = write_shards("uniform", [5, 3], kind="pseudo", target_ids=["one", "two"])
    drawn = [3, 0, 2, 2, 1, 0, 3, 1]
    labels, images = pa.array(drawn, pa.int32()), pa.array(["one", "two"] * 4)
    pq.write_table(pa.table({"class": labels, "target_id": images}), root / "manifest.parquet")
    known = open_conditions(open_shard_pool([str(root)], None))
    assert known.of_samples(torch.arange(8)).argmax(1).tolist() == drawn
    assert known.of_samples(torch.arange(8)).amax(1).tolist() == [1.0] * 8
    soft = known.of_targets(["two", "one"])
    assert soft is not None
    assert soft.shape == (2, len(CLASSES))
    assert soft.argmax(1).tolist() == [1, 0]
    assert soft.amax(1).tolist() == torch.full((2,), 0.7).tolist()
