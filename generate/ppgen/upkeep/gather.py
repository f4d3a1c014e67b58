"""Copying shards into one directory and finishing it: `ppgen gather`, `ppgen pull` and `ppgen push`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from ppcore.console import shortened
from ppcore.errors import UserError
from ppcore.shards import CONDITIONS, PLAN, meta_path, tar_path
from ppcore.storage import Store, in_order
from ppgen.plan import Plan, encode_plan, plan_differences
from ppgen.shards import (
    ShardCommit,
    exclusive,
    finalize,
    pending_shards,
    read_commit,
    read_plan,
    require_empty,
    require_writable,
    stored_file,
    write_commit,
)

_MOST_NAMED = 10


def gather(
    sources: Sequence[Store], destination: Store, on_shard: Callable[[int], None] | None = None
) -> int:
    """Bring the committed shards of `sources`, all made with one plan, into `destination` and finish it.

    Shards that `destination` has are kept, so the same call resumes. Local shards are hard links if the file system has them. Manifest,
    index and card are made from the shards and not copied.

    Args:
        destination: empty, of the same plan, or one of `sources`.
        on_shard: called with the number of samples of every copied shard.

    Returns:
        Samples that were copied.

    Raises:
        UserError: the plans differ, a shard is in no directory or is damaged, or the destination holds something else or cannot be
            written.
    """
    plan = _common_plan(sources)
    _claim(destination, plan)
    copied = 0
    with exclusive(destination):
        if plan.kind == "pseudo" and not destination.exists(CONDITIONS):
            destination.write_atomic(CONDITIONS, _read_conditions(sources))
        pending = set(pending_shards(destination, plan))
        holders = _find_shards(sources, plan, pending) if pending else {}
        if lacking := sorted(pending - holders.keys()):
            raise UserError(
                f"{len(lacking)} of {plan.num_shards} shards are missing: {shortened(lacking, _MOST_NAMED)}; run the missing parts "
                f"again, or the command without --part, which makes what is missing"
            )
        widths = [store.width for store in (*sources, destination)]
        width = max(widths) // 4 or 1  # whole shards in memory
        for shard in in_order(lambda n: _copy(holders[n], destination, plan, n), sorted(pending), width):
            count = plan.locate(shard)[2]
            copied += count
            if on_shard is not None:
                on_shard(count)
        finalize(destination, plan)
    return copied


def checked_shard(source: Store, plan: Plan, shard: int) -> tuple[ShardCommit, bytes, bytes]:
    """Commit record, tar and parquet file of a shard, compared with the checksums of the record. Raises UserError."""
    try:
        commit = read_commit(source, shard)
        tar = source.read(tar_path(shard), commit.tar.bytes)
        meta = source.read(meta_path(shard), commit.parquet.bytes)
    except (FileNotFoundError, ValueError) as error:
        raise UserError(
            f"shard {shard} of {source} cannot be read ({error}); run ppgen verify on it first"
        ) from error
    if commit.fingerprint != plan.shard_fingerprint(shard) or (stored_file(tar), stored_file(meta)) != (
        commit.tar,
        commit.parquet,
    ):
        raise UserError(f"shard {shard} of {source} is damaged; run ppgen verify --repair on it first")
    return commit, tar, meta


def _common_plan(sources: Sequence[Store]) -> Plan:
    plan = read_plan(sources[0])
    for store in sources[1:]:
        other = read_plan(store)
        if other.content() != plan.content():
            differences = plan_differences(plan, other) or ["the order in which totals were raised"]
            raise UserError(
                f"{sources[0]} and {store} were made with different plans ({'; '.join(differences)}); give parts of one plan. Copy "
                f"plan.json (and conditions.parquet) of the first into the others' empty directories before they begin"
            )
    return plan


def _claim(store: Store, plan: Plan) -> None:
    require_writable(store)
    if not store.exists(PLAN):
        require_empty(store)
        store.create(PLAN, encode_plan(plan))
    if read_plan(store).content() != plan.content():
        raise UserError(
            f"{store} holds another directory; give a new or empty place, or the one it was copied to before"
        )


def _read_conditions(sources: Sequence[Store]) -> bytes:
    for source in sources:
        if source.exists(CONDITIONS):
            return source.read(CONDITIONS)
    raise UserError(f"{sources[0]} has lost its {CONDITIONS}; run ppgen verify on it")


def _find_shards(sources: Sequence[Store], plan: Plan, wanted: set[int]) -> dict[int, Store]:
    """Shard -> a directory in which it is committed."""
    holders: dict[int, Store] = {}
    for source in sources:
        absent = set(pending_shards(source, plan))
        holders |= dict.fromkeys(wanted - holders.keys() - absent, source)
    return holders


def _copy(source: Store, destination: Store, plan: Plan, shard: int) -> int:
    commit, tar, meta = checked_shard(source, plan, shard)
    _link_or_write(source, destination, tar_path(shard), tar)
    _link_or_write(source, destination, meta_path(shard), meta)
    write_commit(destination, commit)
    return shard


def _link_or_write(source: Store, destination: Store, name: str, data: bytes) -> None:
    """Link the file, or copy it if one of the two is an object store or the file system refuses links."""
    if source.is_local and destination.is_local:
        staged = destination.stage(name)
        try:
            os.link(os.path.realpath(source.path(name)), staged)
        except OSError:
            pass
        else:
            destination.publish(staged, name)
            return
    destination.write_atomic(name, data)
