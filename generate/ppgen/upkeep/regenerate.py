"""`ppgen verify --regenerate`: sample some images again and compare them."""

from __future__ import annotations

import io
from collections import defaultdict

from ppcore.errors import UserError
from ppcore.seeds import numpy_rng
from ppcore.shards import iter_tar, tar_path
from ppcore.storage import Store
from ppgen.shards import ShardCommit, Worker, read_commit
from ppgen.upkeep.verify import Problems


def regenerate_samples(worker: Worker, store: Store, count: int, seed: int) -> Problems:
    """Sample `count` random images again and compare their bytes with the tars.

    The whole batch of each image is sampled, because the last bits depend on the batch. They also depend on hardware and libraries:
    shards that another platform made are not compared, and `skipped` counts them.

    Args:
        seed: chooses the samples.
    """
    plan, problems, here = worker.plan, Problems(), worker.platform
    chosen = numpy_rng(seed, "regenerate").choice(plan.samples, size=min(count, plan.samples), replace=False)
    rows: dict[int, set[int]] = defaultdict(set)
    for position in chosen:
        shard, row = plan.shard_of(int(position))
        rows[shard].add(row)
    for shard, wanted in sorted(rows.items()):
        commit = _commit_of(store, shard)
        unlike = (
            commit.platform.differences(here) if commit is not None and commit.platform is not None else []
        )
        if unlike:
            problems.skipped["; ".join(unlike)] += len(wanted)
            continue
        # If images were drawn again, only the shard as a whole can be sampled again.
        whole = bool(commit and commit.bad)
        _compare(worker, store, shard, wanted, whole, problems)
    return problems


def _commit_of(store: Store, shard: int) -> ShardCommit | None:
    """The commit record, or None if it cannot be read; other checks report that."""
    try:
        return read_commit(store, shard)
    except (FileNotFoundError, ValueError):
        return None


def _compare(
    worker: Worker, store: Store, shard: int, wanted: set[int], whole: bool, problems: Problems
) -> None:
    """Sample some rows of a shard again and report those that differ from the tar."""
    try:
        stored = list(iter_tar(io.BytesIO(store.read(tar_path(shard))), tar_path(shard)))
    except (FileNotFoundError, UserError) as error:
        problems.shards[shard].append(f"cannot be read: {error}")
        return
    index = worker.plan.sample_rows(shard).index
    left = set(wanted)
    while left:
        images, where = worker.regenerate(shard, min(left), whole)
        batch = {row for row in left if where.start <= row < where.stop}
        left -= batch
        for row in sorted(batch):
            problems.checked += 1
            if row >= len(stored) or stored[row].image != images[row - where.start]:
                problems.shards[shard].append(f"sample {int(index[row])} comes out differently")
