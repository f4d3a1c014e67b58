"""Proof that a shard directory is what its plan says, shard by shard and as a whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from ppcore.errors import UserError
from ppcore.shards import CONDITIONS, SHARDS
from ppcore.storage import Store, in_order
from ppgen.plan import Conditions, MergedPlan, Plan
from ppgen.shards import ShardCommit, read_commit
from ppgen.upkeep.directory_checks import ManifestCheck, check_index, check_strays
from ppgen.upkeep.merged_checks import merged_check
from ppgen.upkeep.report import Report
from ppgen.upkeep.shard_checks import Check, ShardFiles, check_shard

_MEMORY = 1 << 30  # bytes that shards of an object store may take while they are looked at side by side


def verify_directory(
    store: Store, plan: Plan | MergedPlan, on_shard: Callable[[int], None] | None = None
) -> Report:
    """Check plan, tars, parquet files, commit records, manifest and index against each other.

    Args:
        on_shard: called with the number of samples after every shard.
    """
    report = Report()
    if isinstance(plan, MergedPlan):
        check = merged_check(store, plan, report)
    else:
        check = plain_check(store, plan, report)
    commits: list[ShardCommit] = []
    with ManifestCheck(store, plan) as manifest:

        def look(shard: int) -> _Look:
            files = ShardFiles(store)
            try:
                commit = read_commit(files, shard)
            except FileNotFoundError:
                return _Look(None, ["is not committed"])
            except ValueError as error:
                return _Look(None, [f"has a damaged commit record ({error})"])
            return _Look(commit, check(files, shard, commit), manifest.rows(files, shard))

        shards = range(plan.num_shards)
        for shard, found in zip(shards, in_order(look, shards, _width(store)), strict=True):
            count = plan.locate(shard)[2]
            if found.problems:
                report.shards[shard].extend(found.problems)
            if found.commit is not None:
                commits.append(found.commit)
                report.checked += count
                manifest.compare(shard, found.rows)
            if on_shard is not None:
                on_shard(count)
        check_strays(store, plan, report)
        if len(commits) == plan.num_shards:
            check_index(store, plan, commits, report)
            manifest.report(report)
    return report


@dataclass(frozen=True)
class _Look:
    """What was found out about a shard.

    Attributes:
        commit: its record; None where there is none that can be read.
        problems: what is wrong.
        rows: its rows, to compare the manifest with; or why there are none.
    """

    commit: ShardCommit | None
    problems: list[str]
    rows: pa.Table | Exception | None = None


def _width(store: Store) -> int:
    """How many shards to look at side by side: each takes some four times its tar in memory."""
    if store.width == 1:
        return 1
    largest = max(store.sizes(SHARDS).values(), default=0)
    return max(1, min(store.width, _MEMORY // (4 * largest + 1)))


def plain_check(store: Store, plan: Plan, report: Report) -> Check:
    """See :data:`ppgen.upkeep.shard_checks.Check`."""
    conditions = _read_conditions(store, plan, report)

    def check(files: ShardFiles, shard: int, commit: ShardCommit) -> list[str]:
        if plan.kind == "pseudo" and conditions is None:
            return []  # nothing to compare with; the report says why
        return check_shard(files, plan, shard, commit, conditions)

    return check


def _read_conditions(store: Store, plan: Plan, report: Report) -> Conditions | None:
    if plan.kind == "synth":
        return None
    try:
        return Conditions.from_parquet(store.read(CONDITIONS), plan)
    except FileNotFoundError:
        report.general.append(f"{CONDITIONS} is missing")
        report.conditions_bad = True
    except UserError as error:
        report.general.append(str(error))
        report.conditions_bad = True
    return None
