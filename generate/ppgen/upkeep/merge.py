"""Several finished directories as one: the tars keep their bytes but for the keys, which are numbered through.

Keys must be unique over a dataset and every directory's begin at zero, so samples of all but the first are given new
keys: nine digits and a checksum in every tar header, the three columns that hold them in the parquet rows. No image is
decoded or encoded again. Shards whose keys stay (those of the first directory) are hard links where the file system allows.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ppcore.errors import UserError
from ppcore.shards import (
    CONDITIONS,
    MANIFEST,
    PLAN,
    ShardSet,
    iter_tar,
    meta_path,
    sample_key,
    tar_path,
)
from ppcore.storage import Store, read_table
from ppgen.plan import Conditions, MergedPlan, Part, Plan
from ppgen.quality import digest_prefixes, repeated
from ppgen.shards import (
    create_plan,
    exclusive,
    finalize,
    pending_shards,
    read_any_plan,
    read_commit,
    read_plan,
    require_empty,
    require_writable,
    stored_file,
    write_commit,
)
from ppgen.upkeep.renumber import renumber_rows, renumber_tar

_ALIKE: dict[str, Callable[[Plan], Any]] = {
    "kind": lambda plan: plan.kind,
    "source classes": lambda plan: tuple(plan.source["class_names"]),
    "resolution": lambda plan: plan.resolution,
    "channels": lambda plan: plan.channels,
}
"""What must be the same in every part."""


def merge_directories(
    directories: Sequence[str], out: str, on_shard: Callable[[int], None] | None = None
) -> int:
    """Merge finished directories into a new one; an interrupted merge is resumed by the same call.

    Args:
        on_shard: called with the number of samples after every shard.

    Returns:
        How many images occur more than once.

    Raises:
        UserError: fewer than two, unfinished, unlike, equal or damaged directories, or `out` holds something else.
    """
    stores = [Store(directory) for directory in directories]
    merged = MergedPlan(_read_parts(stores))
    store = Store(out)
    if store.exists(PLAN):
        there = read_any_plan(store)
        if there.fingerprint != merged.fingerprint:
            raise UserError(
                f"{out} was made with another request; repeat that request to resume it, or give another --out"
            )
    else:
        require_empty(store)
    require_writable(store)
    conditions = _join_conditions(stores, merged) if merged.kind == "pseudo" else None
    create_plan(store, merged)
    with exclusive(store):
        if conditions is not None:
            store.write_atomic(CONDITIONS, conditions)
        pending = set(pending_shards(store, merged))
        for part, source in zip(merged.parts, stores, strict=True):
            for own in range(part.plan.num_shards):
                if part.shard + own in pending:
                    _take(source, store, merged, part, own)
                if on_shard is not None:
                    on_shard(part.plan.locate(own)[2])
        finalize(store, merged)
    return _repeated(store)


def _read_parts(stores: Sequence[Store]) -> list[Plan]:
    if len(stores) < 2:
        raise UserError("one directory was given; give at least two to merge")
    plans: list[Plan] = []
    for store in stores:
        ShardSet.open(store.root)  # says what is wrong with an unfinished or foreign directory
        plan = read_plan(store)
        for what, value in _ALIKE.items():
            if plans and value(plan) != value(plans[0]):
                raise UserError(
                    f"{stores[0]} and {store} differ in {what}; only directories alike in that can be merged"
                )
        twin = next((s for s, p in zip(stores, plans, strict=False) if p.content() == plan.content()), None)
        if twin is not None:
            raise UserError(
                f"{twin} and {store} hold the same samples; give directories made with different seeds or classes"
            )
        if pending_shards(store, plan):
            raise UserError(
                f"{store} has missing or damaged shards; run the ppgen command that made it again, then merge"
            )
        plans.append(plan)
    return plans


def _take(source: Store, store: Store, merged: MergedPlan, part: Part, own: int) -> None:
    """Bring one shard over: tar, parquet rows, and the commit record last."""
    shard, shift = part.shard + own, part.sample
    original = read_commit(source, own)
    tar, meta = source.read(tar_path(own)), source.read(meta_path(own))
    for name, data, recorded in (("tar", tar, original.tar), ("parquet", meta, original.parquet)):
        if stored_file(data) != recorded:
            raise UserError(
                f"the {name} of shard {own} of {source} is damaged; run ppgen verify --repair on it first"
            )
    segment, first, count = part.plan.locate(own)
    keys = [sample_key(i) for i in range(segment.start + first, segment.start + first + count)]
    if [sample.key for sample in iter_tar(io.BytesIO(tar), source.path(tar_path(own)))] != keys:
        raise UserError(
            f"shard {own} of {source} holds other samples than planned; run ppgen verify --repair on it first"
        )
    if shift or shard != own:
        try:
            tar, meta = renumber_tar(tar, shift), renumber_rows(meta, count, shift, shard - own)
        except ValueError as error:
            raise UserError(
                f"the parquet of shard {own} of {source} is damaged ({error}); run ppgen verify --repair on it first"
            ) from error
        store.write_atomic(tar_path(shard), tar)
        store.write_atomic(meta_path(shard), meta)
    else:
        _link(source, store, tar_path(shard), tar)
        _link(source, store, meta_path(shard), meta)
    commit = replace(
        original,
        shard=shard,
        fingerprint=merged.shard_fingerprint(shard),
        first_index=original.first_index + shift,
        tar=stored_file(tar),
        parquet=stored_file(meta),
        merged_from=original,
    )
    write_commit(store, commit)


def _link(source: Store, store: Store, name: str, data: bytes) -> None:
    """The same file under both roots; a copy where links are not possible (object stores, other file systems)."""
    if source.is_local and store.is_local:
        staged = store.stage(name)
        try:
            os.link(source.path(name), staged)
        except OSError:
            pass  # another file system, or one without links: copied below
        else:
            store.publish(staged, name)
            return
    store.write_atomic(name, data)


def _join_conditions(stores: Sequence[Store], merged: MergedPlan) -> bytes:
    """The parts' condition tables one below the other."""
    try:
        tables = [
            Conditions.from_parquet(store.read(CONDITIONS), part.plan)
            for store, part in zip(stores, merged.parts, strict=True)
        ]
    except FileNotFoundError as error:
        raise UserError(
            f"a directory has lost its {CONDITIONS} ({error.filename}); repeat the ppgen pseudo command that made it, then merge"
        ) from error
    ids = [name for table in tables for name in table.target_ids]
    return Conditions(ids, np.concatenate([table.soft for table in tables])).to_parquet()


def _repeated(store: Store) -> int:
    """Images whose bytes another image of the directory has too."""
    with store.open(MANIFEST) as handle:
        digests = read_table(handle, None, columns=["sha256"]).column("sha256").to_pylist()
    return repeated(digest_prefixes(digests))
