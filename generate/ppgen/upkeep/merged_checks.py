"""Proof that a merged directory is what its parts were: every shard is given its old keys back and checked as one of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from ppcore.errors import UserError
from ppcore.shards import CONDITIONS, meta_path, tar_path
from ppcore.storage import MAX_OBJECT_BYTES, Store, read_table
from ppgen.plan import Conditions, MergedPlan, Part
from ppgen.shards import ShardCommit, stored_file
from ppgen.upkeep.renumber import renumber_rows, renumber_tar
from ppgen.upkeep.report import Report
from ppgen.upkeep.shard_checks import Check, ShardFiles, check_shard


class _AsPart(ShardFiles):
    """A shard of a merged directory read as it was in its part: under its old number, its samples under their old keys."""

    def __init__(self, files: Store, part: Part, own: int) -> None:
        super().__init__(files)
        self._files, self._part, self._own = files, part, own

    def read(self, name: str, limit: int = MAX_OBJECT_BYTES) -> bytes:
        part, own = self._part, self._own
        path = {tar_path(own): tar_path, meta_path(own): meta_path}[name]
        data = self._files.read(path(part.shard + own), limit)
        if path is tar_path:
            return renumber_tar(data, -part.sample)
        return renumber_rows(data, part.plan.locate(own)[2], -part.sample, -part.shard)


def merged_check(store: Store, merged: MergedPlan, report: Report) -> Check:
    """See :data:`ppgen.upkeep.shard_checks.Check`."""
    tables = _read_conditions(store, merged, report)

    def check(files: ShardFiles, shard: int, commit: ShardCommit) -> list[str]:
        part, own = merged.part_of(shard)
        problems = _check_files(files, merged, shard, commit)
        if problems or report.conditions_bad:
            return problems
        if commit.merged_from is None:
            return ["has no record of the shard it was merged from"]
        view = _AsPart(files, part, own)
        try:
            # Rewritten rows may differ from the original file in what the parquet library puts around them.
            original = replace(commit.merged_from, parquet=stored_file(view.read(meta_path(own))))
            return check_shard(view, part.plan, own, original, tables.get(id(part)))
        except (ValueError, KeyError, TypeError) as error:
            return [f"cannot be given its old keys ({error})"]

    return check


def _check_files(store: Store, merged: MergedPlan, shard: int, commit: ShardCommit) -> list[str]:
    """The merged files against their own commit record."""
    if commit.fingerprint != merged.shard_fingerprint(shard):
        return ["was committed for another plan"]
    for path, recorded in ((tar_path(shard), commit.tar), (meta_path(shard), commit.parquet)):
        try:
            data = store.read(path)
        except FileNotFoundError:
            return [f"lacks {path}"]
        except (UserError, OSError) as error:
            return [f"cannot be read: {error}"]
        if stored_file(data) != recorded:
            return [f"{path} does not match its recorded sha256"]
    return []


def _read_conditions(store: Store, merged: MergedPlan, report: Report) -> dict[int, Conditions]:
    """The parts' tables, cut from the merged one; their rows are proved by the soft labels in the tars."""
    if merged.kind == "synth":
        return {}
    try:
        row_bytes = 8 * len(merged.source["class_names"])
        table = read_table(store.read(CONDITIONS), None, row_bytes=row_bytes)
        ids = table.column("target_id").to_pylist()
        soft = np.stack(table.column("soft").to_numpy()).astype(np.float32)
        wanted = sum(int((part.plan.target or {})["images"]) for part in merged.parts)
        if len(ids) != wanted:
            raise UserError(f"{len(ids)} rows where {wanted} belong")
    except (FileNotFoundError, UserError, KeyError, ValueError, pa.ArrowException) as error:
        report.general.append(f"{CONDITIONS} is missing or damaged ({error})")
        report.conditions_bad = True
        return {}
    return {
        id(part): Conditions(ids[part.condition :][:count], soft[part.condition :][:count])
        for part in merged.parts
        for count in [int((part.plan.target or {})["images"])]
    }
