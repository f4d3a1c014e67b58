"""The state of a shard directory: its plan, and which shards of it are committed, missing or damaged."""

from __future__ import annotations

from pathlib import Path

from ppcore.errors import UserError
from ppcore.shards import COMMITS, PLAN, commit_path, meta_path, tar_path
from ppcore.storage import MAX_JSON_BYTES, OutsideError, Store
from ppgen.plan import MergedPlan, Plan, ShardPlan, decode_any_plan, decode_plan
from ppgen.shards.commit import read_commit


def read_plan(store: Store) -> Plan:
    """The plan of a directory that was not merged. Raises UserError when there is none."""
    return decode_plan(_read_plan_file(store), store.path(PLAN))


def read_any_plan(store: Store) -> Plan | MergedPlan:
    """The plan of a directory, merged or not. Raises UserError."""
    return decode_any_plan(_read_plan_file(store), store.path(PLAN))


def _read_plan_file(store: Store) -> bytes:
    try:
        return store.read(PLAN, MAX_JSON_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"{store} is no shard directory (it has no {PLAN}); make one with ppgen synth or ppgen pseudo"
        ) from error


def pending_shards(store: Store, plan: ShardPlan) -> list[int]:
    """The shards that are not committed as planned: no record, a record of another plan, or files of another size than recorded."""
    recorded = set(store.list(COMMITS))
    return [
        shard
        for shard in range(plan.num_shards)
        if Path(commit_path(shard)).name not in recorded or not _is_sound(store, plan, shard)
    ]


def _is_sound(store: Store, plan: ShardPlan, shard: int) -> bool:
    try:
        commit = read_commit(store, shard)
        sizes = store.size(tar_path(shard)), store.size(meta_path(shard))
    except (FileNotFoundError, ValueError, OutsideError):
        return False
    planned = commit.fingerprint == plan.shard_fingerprint(shard)
    return planned and sizes == (commit.tar.bytes, commit.parquet.bytes)
