from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from plans import make_plan

from ppgen.plan.plan import Segment, permute


@pytest.mark.parametrize("size", [1, 2, 3, 10, 64, 65, 1000])
def test_permutation_is_a_bijection_and_mixes(size: int) -> None:
    image = permute(np.arange(size), size, seed=1)
    assert sorted(image) == list(range(size))
    if size >= 64:
        assert abs(np.corrcoef(np.arange(size), image)[0, 1]) < 0.3
        assert (image != permute(np.arange(size), size, seed=2)).any()


def test_permutation_values_are_frozen() -> None:
    """Other values would give existing plans another meaning."""
    assert permute(np.arange(8), 1000, seed=1).tolist() == [910, 537, 3, 660, 251, 61, 689, 680]


def test_classes_are_balanced_and_mixed_in_every_shard() -> None:
    plan = make_plan(segments=(Segment(0, 3000, 1000),), samples_per_shard=300)
    labels = [plan.sample_rows(shard).label for shard in range(plan.num_shards)]
    assert np.unique(np.concatenate(labels), return_counts=True)[1].tolist() == [1000, 1000, 1000]
    for rows in labels:
        _, counts = np.unique(rows, return_counts=True)
        assert len(counts) == 3
        assert counts.min() > 60


def test_rows_cover_every_index_once_with_distinct_seeds() -> None:
    plan = make_plan()
    rows = [plan.sample_rows(shard) for shard in range(plan.num_shards)]
    assert np.concatenate([r.index for r in rows]).tolist() == list(range(75))
    assert len(np.unique(np.concatenate([r.seed for r in rows]))) == 75
    assert [plan.locate(s)[2] for s in range(4)] == [20, 20, 20, 15]
    assert [(b.start, b.stop) for b in plan.batches(3)] == [(0, 8), (8, 15)]


def test_an_extension_changes_no_earlier_sample() -> None:
    plan = make_plan()
    extended = dataclasses.replace(plan, segments=(*plan.segments, Segment(75, 30, (10, 20, 0))))
    for shard in range(plan.num_shards):
        before, after = plan.sample_rows(shard), extended.sample_rows(shard)
        assert (before.label == after.label).all()
        assert (before.seed == after.seed).all()
        assert plan.shard_fingerprint(shard) == extended.shard_fingerprint(shard)
    assert plan.fingerprint != extended.fingerprint
    added = np.concatenate([extended.sample_rows(s).label for s in range(4, extended.num_shards)])
    assert np.unique(added, return_counts=True)[1].tolist() == [10, 20]
    assert extended.per_class == [35, 45, 25]
    assert extended.shard_of(75) == (4, 0)
    assert extended.shard_of(74) == (3, 14)


def test_a_shard_of_a_million_samples_costs_no_table() -> None:
    names = [f"c{i}" for i in range(1000)]
    plan = make_plan(
        source={"name": "d", "class_names": names},
        classes=tuple(range(1000)),
        segments=(Segment(0, 1_300_000, 1300),),
        samples_per_shard=1000,
    )
    assert plan.num_shards == 1300
    start = time.perf_counter()
    labels = plan.sample_rows(1299).label
    assert time.perf_counter() - start < 1.0
    assert labels is not None
    assert len(np.unique(labels)) > 500
