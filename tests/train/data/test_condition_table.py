"""Soft labels of target images are found whatever the target was read from."""

from __future__ import annotations

import torch

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
