"""Proof that manifest, index and folders are what the shards say."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from ppcore.errors import UserError
from ppcore.shards import COMMITS, INDEX, MANIFEST, META, SHARDS, commit_path, meta_path, tar_path
from ppcore.storage import MAX_JSON_BYTES, Store, decode, open_table, read_table
from ppgen.plan import ShardPlan
from ppgen.shards import ShardCommit, make_index, read_rows
from ppgen.upkeep.report import Report


def check_strays(store: Store, plan: ShardPlan, report: Report) -> None:
    """Files in the shard folders that no shard of the plan accounts for."""
    for folder, path in ((SHARDS, tar_path), (META, meta_path), (COMMITS, commit_path)):
        planned = {path(shard).rsplit("/", 1)[-1] for shard in range(plan.num_shards)}
        strays = [name for name in store.list(folder) if name not in planned]
        if strays:
            report.general.append(
                f"{folder}/ holds {len(strays)} files outside the plan, such as {strays[0]}"
            )


def check_index(store: Store, plan: ShardPlan, commits: list[ShardCommit], report: Report) -> None:
    try:
        if decode(dict[str, Any], store.read(INDEX, MAX_JSON_BYTES)) != make_index(plan, commits):
            report.general.append(f"{INDEX} does not match the commit records")
    except FileNotFoundError:
        report.general.append(f"{INDEX} is missing; run the same ppgen command again to finish the directory")
    except ValueError as error:
        report.general.append(f"{INDEX} is damaged ({error})")


def check_manifest(store: Store, plan: ShardPlan, report: Report) -> None:
    """The manifest is the shards' parquet rows, one row group a shard."""
    try:
        with store.open(MANIFEST) as handle:
            manifest = open_table(handle)
            if manifest.num_row_groups != plan.num_shards or manifest.metadata.num_rows != plan.samples:
                report.general.append(
                    f"{MANIFEST} has {manifest.metadata.num_rows} rows in {manifest.num_row_groups} groups, planned "
                    f"{plan.samples} in {plan.num_shards}"
                )
                return
            for shard in range(plan.num_shards):
                rows = read_rows(store, plan, shard)
                if not read_table(manifest, len(rows), group=shard).equals(rows):
                    report.shards[shard].append(f"{MANIFEST} does not match {meta_path(shard)}")
    except FileNotFoundError as error:
        report.general.append(f"{error.filename or MANIFEST} is missing")
    except (pa.ArrowException, OSError, ValueError, UserError) as error:
        report.general.append(f"{MANIFEST} cannot be checked ({error})")
