"""Proof that a shard directory is what its plan says, shard by shard and as a whole."""

from __future__ import annotations

from collections.abc import Callable

from ppcore.errors import UserError
from ppcore.shards import CONDITIONS
from ppcore.storage import Store
from ppgen.plan import Conditions, MergedPlan, Plan
from ppgen.shards import ShardCommit, read_commit
from ppgen.upkeep.directory_checks import check_index, check_manifest, check_strays
from ppgen.upkeep.merged_checks import merged_check
from ppgen.upkeep.report import Report
from ppgen.upkeep.shard_checks import check_shard


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
    for shard in range(plan.num_shards):
        count = plan.locate(shard)[2]
        try:
            commits.append(read_commit(store, shard))
        except FileNotFoundError:
            report.shards[shard].append("is not committed")
        except ValueError as error:
            report.shards[shard].append(f"has a damaged commit record ({error})")
        else:
            problems = check(shard, commits[-1])
            if problems:
                report.shards[shard].extend(problems)
            report.checked += count
        if on_shard is not None:
            on_shard(count)
    check_strays(store, plan, report)
    if len(commits) == plan.num_shards:
        check_index(store, plan, commits, report)
        check_manifest(store, plan, report)
    return report


def plain_check(store: Store, plan: Plan, report: Report) -> Callable[[int, ShardCommit], list[str]]:
    """Shard and commit record -> what is wrong with it."""
    conditions = _read_conditions(store, plan, report)

    def check(shard: int, commit: ShardCommit) -> list[str]:
        if plan.kind == "pseudo" and conditions is None:
            return []  # nothing to compare with; the report says why
        return check_shard(store, plan, shard, commit, conditions)

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
