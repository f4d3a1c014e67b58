"""The state of a shard directory: its plan, and which shards of it are committed, missing or damaged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ppcore.errors import UserError
from ppcore.shards import COMMITS, META, PLAN, SHARDS, commit_path, meta_path, tar_path
from ppcore.storage import MAX_JSON_BYTES, Store, in_order
from ppgen.plan import Plan, decode_plan
from ppgen.shards.commit import ShardCommit, read_commits


def read_plan(store: Store) -> Plan:
    """The plan of a shard directory. Raises UserError if there is none."""
    try:
        data = store.read(PLAN, MAX_JSON_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"{store} is no shard directory (it has no {PLAN}); make one with ppgen synth or ppgen pseudo"
        ) from error
    return decode_plan(data, store.path(PLAN))


@dataclass(frozen=True)
class Survey:
    """Which shards of a plan are committed.

    Attributes:
        commits: shard -> its record, of the shards that are committed as planned.
        pending: the others: no record, a record of another plan, or files of another size than recorded.
    """

    commits: dict[int, ShardCommit]
    pending: list[int]


def survey(store: Store, plan: Plan) -> Survey:
    """List the folders of a directory once and read every commit record."""
    recorded, tars, metas = in_order(store.sizes, (COMMITS, SHARDS, META), store.width)
    there = [
        shard
        for shard in range(plan.num_shards)
        if all(
            Path(path(shard)).name in found
            for path, found in ((commit_path, recorded), (tar_path, tars), (meta_path, metas))
        )
    ]
    commits = {}
    for shard, commit in zip(there, read_commits(store, there), strict=True):
        if isinstance(commit, Exception) or commit.fingerprint != plan.shard_fingerprint(shard):
            continue
        sizes = tars[Path(tar_path(shard)).name], metas[Path(meta_path(shard)).name]
        if sizes == (commit.tar.bytes, commit.parquet.bytes):
            commits[shard] = commit
    return Survey(commits, [shard for shard in range(plan.num_shards) if shard not in commits])


def pending_shards(store: Store, plan: Plan) -> list[int]:
    """The shards that are not committed as planned, see :class:`Survey`."""
    return survey(store, plan).pending
