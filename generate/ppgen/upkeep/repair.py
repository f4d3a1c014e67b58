"""`ppgen verify --repair`: bad shards lose their commit record, so that the next run makes them again."""

from __future__ import annotations

import re

from ppcore.errors import UserError
from ppcore.shards import CONDITIONS, INDEX, commit_path, planned_files
from ppcore.storage import Store
from ppgen.plan import ShardPlan
from ppgen.shards import exclusive
from ppgen.upkeep.report import Report

_OURS = re.compile(r"\d{6,}\.(tar|parquet|json)")


def requeue_shards(store: Store, plan: ShardPlan, report: Report) -> str:
    """Queue again what `report` found, and say what was done.

    The index goes too: until the shards are made again the directory is not finished, and readers are told so.

    Raises:
        UserError: another ppgen holds the directory, or it cannot be written.
    """
    removed = 0
    with exclusive(store):
        try:
            store.delete(INDEX)
            for shard in report.shards:
                store.delete(commit_path(shard))
            if report.conditions_bad:
                store.delete(CONDITIONS)
            for folder, planned in planned_files(plan.num_shards).items():
                strays = set(store.list(folder)) - planned
                for name in filter(_OURS.fullmatch, strays):  # what ppgen did not write is not ours to delete
                    store.delete(f"{folder}/{name}")
                    removed += 1
        except OSError as error:
            raise UserError(
                f"cannot write to {store} ({error.strerror or error}); make it writable"
            ) from error
    done = [f"{len(report.shards)} of {plan.num_shards} shards are queued again"]
    done += [f"{removed} files outside the plan are gone"] if removed else []
    done += [f"{CONDITIONS} is to be made again"] if report.conditions_bad else []
    return ", ".join(done)
