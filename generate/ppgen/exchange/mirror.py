"""One finished directory copied into another place, shard by shard, every byte compared with its commit record."""

from __future__ import annotations

from collections.abc import Callable

from ppcore.errors import UserError
from ppcore.shards import CONDITIONS, PLAN, ShardSet, meta_path, tar_path
from ppcore.storage import Store, in_order
from ppgen.plan import MergedPlan, Plan, encode_plan
from ppgen.shards import (
    ShardCommit,
    exclusive,
    finalize,
    pending_shards,
    read_any_plan,
    read_commit,
    require_empty,
    require_writable,
    stored_file,
    write_commit,
)


def mirror(source: Store, destination: Store, on_shard: Callable[[int], None] | None = None) -> int:
    """Copy a finished directory; what is there already is kept, so that the same call resumes.

    Manifest, index and card are not copied but made from the shards: nothing of a stranger's goes unchecked. The plan is not remembered
    as one of this machine's.

    Args:
        on_shard: called with the number of samples of every copied shard.

    Returns:
        Samples that were copied.

    Raises:
        UserError: unfinished or damaged source, or the destination holds something else or cannot be written.
    """
    ShardSet.open(source.root)  # says what is wrong with an unfinished or foreign directory
    plan = read_any_plan(source)
    _claim(destination, plan)
    copied = 0
    with exclusive(destination):
        if plan.kind == "pseudo" and not destination.exists(CONDITIONS):
            destination.write_atomic(CONDITIONS, _read(source, CONDITIONS))
        pending = pending_shards(destination, plan)
        width = max(source.width, destination.width) // 4 or 1  # whole shards in memory
        for shard in in_order(lambda n: _copy(source, destination, plan, n), pending, width):
            count = plan.locate(shard)[2]
            copied += count
            if on_shard is not None:
                on_shard(count)
        finalize(destination, plan)
    return copied


def checked_shard(source: Store, plan: Plan | MergedPlan, shard: int) -> tuple[ShardCommit, bytes, bytes]:
    """A shard's commit record, tar and parquet file, as the record says they are. Raises UserError."""
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


def _claim(store: Store, plan: Plan | MergedPlan) -> None:
    require_writable(store)
    if not store.exists(PLAN):
        require_empty(store)
        store.create(PLAN, encode_plan(plan))
    if read_any_plan(store).fingerprint != plan.fingerprint:
        raise UserError(
            f"{store} holds another directory; give a new or empty place, or the one it was copied to before"
        )


def _copy(source: Store, destination: Store, plan: Plan | MergedPlan, shard: int) -> int:
    commit, tar, meta = checked_shard(source, plan, shard)
    destination.write_atomic(tar_path(shard), tar)
    destination.write_atomic(meta_path(shard), meta)
    write_commit(destination, commit)
    return shard


def _read(source: Store, name: str) -> bytes:
    try:
        return source.read(name)
    except FileNotFoundError as error:
        raise UserError(f"{source} has lost its {name}; run ppgen verify on it") from error
