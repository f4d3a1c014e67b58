"""Proof that the images are the plan's: some are sampled again."""

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

    A whole batch is sampled for each, because results depend on the batch in the last bits; on the hardware and the libraries, too, so
    that shards which were made on others are left out, and counted in the report's `skipped`.

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
    """None where there is no sound record, which is for other checks to say."""
    try:
        return read_commit(store, shard)
    except (FileNotFoundError, ValueError):
        return None


def _compare(
    worker: Worker, store: Store, shard: int, wanted: set[int], whole: bool, problems: Problems
) -> None:
    """Add to the report which of a shard's rows come out otherwise than stored."""
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
