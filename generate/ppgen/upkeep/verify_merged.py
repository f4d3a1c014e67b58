"""Proof that a merged directory is what its parts were: every shard is given its old keys back and checked as one of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from ppcore.errors import UserError
from ppcore.shards import CONDITIONS, meta_path, tar_path
from ppcore.storage import MAX_OBJECT_BYTES, Store, read_table
from ppgen.plan import Conditions, MergedPlan, Part
from ppgen.shards import require_commit
from ppgen.upkeep.merging import renumber
from ppgen.upkeep.rekey import rekey
from ppgen.upkeep.verification import Report, check_shard, verify_shards


class _AsPart(Store):
    """A merged directory read as one of its parts was: shards under their old numbers, samples under their old keys."""

    def __init__(self, root: str, part: Part) -> None:
        super().__init__(root)
        self._part = part
        self._names = {
            path(own): (own, path) for own in range(part.plan.num_shards) for path in (tar_path, meta_path)
        }

    def read(self, name: str, limit: int = MAX_OBJECT_BYTES) -> bytes:
        own, path = self._names[name]
        part = self._part
        data = super().read(path(part.shard + own), limit)
        if path is tar_path:
            return rekey(data, -part.sample)
        return renumber(data, part.plan.locate(own)[2], -part.sample, -part.shard)


def verify_merged(store: Store, merged: MergedPlan, on_shard: Callable[[int], None] | None = None) -> Report:
    """See :func:`ppgen.upkeep.verification.verify`."""
    report = Report()
    tables = _read_conditions(store, merged, report)
    views = {id(part): _AsPart(store.root, part) for part in merged.parts}

    def check(shard: int, record: dict[str, Any]) -> list[str]:
        part, own = merged.part_of(shard)
        problems = _check_files(store, merged, shard, record)
        if problems or report.conditions_bad:
            return problems
        view = views[id(part)]
        try:
            # Rewritten rows may differ from the original file in what the parquet library puts around them.
            meta = view.read(meta_path(own))
            facts = {"bytes": len(meta), "sha256": hashlib.sha256(meta).hexdigest()}
            original = require_commit({**record["merged_from"], "parquet": facts})
            return check_shard(view, part.plan, own, original, tables.get(id(part)))
        except (ValueError, KeyError, TypeError) as error:
            return [f"cannot be given its old keys ({error})"]

    return verify_shards(store, merged, check, report, on_shard)


def _check_files(store: Store, merged: MergedPlan, shard: int, record: dict[str, Any]) -> list[str]:
    """The merged files against their own commit record."""
    if record["fingerprint"] != merged.shard_fingerprint(shard):
        return ["was committed for another plan"]
    for name, path in (("tar", tar_path(shard)), ("parquet", meta_path(shard))):
        try:
            data = store.read(path)
        except FileNotFoundError:
            return [f"lacks {path}"]
        except (UserError, OSError) as error:
            return [f"cannot be read: {error}"]
        if hashlib.sha256(data).hexdigest() != record[name]["sha256"]:
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
