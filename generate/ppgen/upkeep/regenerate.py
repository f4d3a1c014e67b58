"""Proof that the images are the plan's: some are sampled again."""

from __future__ import annotations

import io
from collections import defaultdict

from ppcore.errors import UserError
from ppcore.seeds import numpy_rng
from ppcore.shards import iter_tar, tar_path
from ppcore.storage import Store
from ppgen.plan import Plan
from ppgen.shards import Worker, read_commit
from ppgen.upkeep.report import Report


def regenerate_samples(worker: Worker, store: Store, count: int, seed: int) -> Report:
    """Sample `count` random images again and compare their bytes with the tars.

    A whole batch is sampled for each, because results depend on the batch in the last bits.

    Args:
        seed: chooses the samples.
    """
    plan, report = worker.plan, Report()
    chosen = numpy_rng(seed, "regenerate").choice(plan.samples, size=min(count, plan.samples), replace=False)
    batches: dict[tuple[int, int], set[int]] = defaultdict(set)
    for position in chosen:
        shard, row = plan.shard_of(int(position))
        batches[shard, 0 if _is_whole(store, plan, shard) else row // plan.batch_size].add(row)
    for (shard, _), wanted in sorted(batches.items()):
        images, where = worker.regenerate(shard, min(wanted), _is_whole(store, plan, shard))
        try:
            stored = list(iter_tar(io.BytesIO(store.read(tar_path(shard))), tar_path(shard)))
        except (FileNotFoundError, UserError) as error:
            report.shards[shard].append(f"cannot be read: {error}")
            continue
        for row in sorted(wanted):
            report.checked += 1
            if row >= len(stored) or stored[row].image != images[row - where.start]:
                report.shards[shard].append(
                    f"sample {int(plan.sample_rows(shard).index[row])} comes out differently"
                )
    return report


def _is_whole(store: Store, plan: Plan, shard: int) -> bool:
    """With draws that were thrown away the unit that can be sampled again is the shard."""
    if plan.redraw is not None:
        return True
    try:
        return bool(read_commit(store, shard).bad)
    except (FileNotFoundError, ValueError):
        return False
