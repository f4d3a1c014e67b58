"""Proof that manifest, index and folders are what the shards say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ppcore.errors import UserError
from ppcore.shards import MANIFEST, meta_path, planned_files
from ppcore.storage import MAX_JSON_BYTES, Store, decode, open_table, read_table
from ppgen.plan import ShardPlan
from ppgen.shards import ShardCommit, make_index, read_rows
from ppgen.upkeep.report import Report
from ppgen.upkeep.shard_checks import ShardFiles

_UNREADABLE = (pa.ArrowException, OSError, ValueError, UserError)  # a file that is missing among them


def check_strays(store: Store, plan: ShardPlan, report: Report) -> None:
    """Files in the shard folders that no shard of the plan accounts for."""
    for folder, planned in planned_files(plan.num_shards).items():
        strays = [name for name in store.list(folder) if name not in planned]
        if strays:
            report.general.append(
                f"{folder}/ holds {len(strays)} files outside the plan, such as {strays[0]}"
            )


def check_index(store: Store, plan: ShardPlan, commits: list[ShardCommit], report: Report) -> None:
    for name, document in make_index(plan, commits):
        try:
            if decode(dict[str, Any], store.read(name, MAX_JSON_BYTES)) != document:
                report.general.append(f"{name} does not match the commit records")
        except FileNotFoundError:
            report.general.append(
                f"{name} is missing; run the same ppgen command again to finish the directory"
            )
        except ValueError as error:
            report.general.append(f"{name} is damaged ({error})")


class ManifestCheck:
    """Proof that the manifest is the shards' parquet rows, one row group a shard; fed in the order of the shards."""

    def __init__(self, store: Store, plan: ShardPlan) -> None:
        self._store, self._plan = store, plan
        self._general = ""  # what is wrong with the whole, after which nothing more is compared
        self._differing: list[int] = []
        self._stack = ExitStack()
        self._manifest: pq.ParquetFile | None = None

    def __enter__(self) -> ManifestCheck:
        with self._told():
            self._manifest = open_table(self._stack.enter_context(self._store.open(MANIFEST)))
            groups, rows = self._manifest.num_row_groups, self._manifest.metadata.num_rows
            if (groups, rows) != (self._plan.num_shards, self._plan.samples):
                self._general = f"{MANIFEST} has {rows} rows in {groups} groups, planned {self._plan.samples} in {self._plan.num_shards}"
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def rows(self, files: ShardFiles, shard: int) -> pa.Table | Exception:
        """A shard's own rows, or why they are not to be had; several may be asked for at once."""
        if self._general:
            return ValueError(self._general)
        try:
            return read_rows(files, self._plan, shard) if files.table is None else files.table
        except _UNREADABLE as error:
            return error

    def compare(self, shard: int, rows: pa.Table | Exception | None) -> None:
        """The manifest's rows of a shard with its own."""
        if self._general or rows is None:
            return
        with self._told():
            if isinstance(rows, Exception):
                raise rows
            if not read_table(self._manifest, len(rows), group=shard).equals(rows):
                self._differing.append(shard)

    def report(self, report: Report) -> None:
        """Say what was found."""
        for shard in self._differing:
            report.shards[shard].append(f"{MANIFEST} does not match {meta_path(shard)}")
        if self._general:
            report.general.append(self._general)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            self._general = f"{error.filename or MANIFEST} is missing"
        except _UNREADABLE as error:
            self._general = f"{MANIFEST} cannot be checked ({error})"
