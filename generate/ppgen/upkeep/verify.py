"""`ppgen verify`: proof that a shard directory is what its plan says, shard by shard and as a whole; and `--repair`."""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ppcore.errors import UserError
from ppcore.seeds import numpy_rng
from ppcore.shards import (
    CONDITIONS,
    INDEX,
    MANIFEST,
    SHARDS,
    commit_path,
    iter_tar,
    meta_path,
    planned_files,
    tar_path,
)
from ppcore.storage import MAX_JSON_BYTES, Store, decode, in_order, open_table, read_table
from ppgen.plan import Conditions, Plan
from ppgen.shards import ShardCommit, Worker, exclusive, make_index, read_commit, read_rows
from ppgen.upkeep.shard_checks import ShardFiles, check_shard


def regenerate_samples(worker: Worker, store: Store, count: int, seed: int) -> Problems:
    """Sample `count` random images again and compare their bytes with the tars.

    The whole batch of each image is sampled, because the last bits depend on the batch. They also depend on hardware and libraries:
    shards that another platform made are not compared, and `skipped` counts them.

    Args:
        seed: chooses the samples.
    """
    plan, problems, here = worker.plan, Problems(), worker.platform
    chosen = numpy_rng(seed, "regenerate").choice(plan.samples, size=min(count, plan.samples), replace=False)
    rows: dict[int, set[int]] = defaultdict(set)
    for position in chosen:
        shard, row = plan.shard_of(int(position))
        rows[shard].add(row)
    for shard, wanted in sorted(rows.items()):
        commit = _commit_of(store, shard)
        unlike = (
            commit.platform.differences(here) if commit is not None and commit.platform is not None else []
        )
        if unlike:
            problems.skipped["; ".join(unlike)] += len(wanted)
            continue
        # If images were drawn again, only the shard as a whole can be sampled again.
        whole = bool(commit and commit.bad)
        _compare(worker, store, shard, wanted, whole, problems)
    return problems


def _commit_of(store: Store, shard: int) -> ShardCommit | None:
    """The commit record, or None if it cannot be read; other checks report that."""
    try:
        return read_commit(store, shard)
    except (FileNotFoundError, ValueError):
        return None


def _compare(
    worker: Worker, store: Store, shard: int, wanted: set[int], whole: bool, problems: Problems
) -> None:
    """Sample some rows of a shard again and report those that differ from the tar."""
    try:
        stored = list(iter_tar(io.BytesIO(store.read(tar_path(shard))), tar_path(shard)))
    except (FileNotFoundError, UserError) as error:
        problems.shards[shard].append(f"cannot be read: {error}")
        return
    index = worker.plan.sample_rows(shard).index
    left = set(wanted)
    while left:
        images, where = worker.regenerate(shard, min(left), whole)
        batch = {row for row in left if where.start <= row < where.stop}
        left -= batch
        for row in sorted(batch):
            problems.checked += 1
            if row >= len(stored) or stored[row].image != images[row - where.start]:
                problems.shards[shard].append(f"sample {int(index[row])} comes out differently")


_MEMORY = 1 << 30  # bytes that shards of an object store may take while they are checked at the same time
_UNREADABLE = (pa.ArrowException, OSError, ValueError, UserError)  # contains FileNotFoundError
_OURS = re.compile(r"\d{6,}\.(tar|parquet|json)")


@dataclass
class Problems:
    """What is wrong with a shard directory.

    Attributes:
        shards: shard -> its problems.
        missing: shards that are not made yet.
        general: problems of the directory as a whole.
        conditions_bad: whether conditions.parquet is missing or damaged.
        checked: number of samples that were checked.
        skipped: reason -> number of samples that were not sampled again. This is no problem.
    """

    shards: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    missing: list[int] = field(default_factory=list)
    general: list[str] = field(default_factory=list)
    conditions_bad: bool = False
    checked: int = 0
    skipped: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.shards and not self.missing and not self.general


def verify_directory(store: Store, plan: Plan, on_shard: Callable[[int], None] | None = None) -> Problems:
    """Check plan, tars, parquet files, commit records, manifest and index against each other.

    Args:
        on_shard: called with the number of samples after every shard.
    """
    problems = Problems()
    conditions = _read_conditions(store, plan, problems)
    commits: list[ShardCommit] = []
    with _ManifestCheck(store, plan) as manifest:

        def look(shard: int) -> _ShardCheck:
            files = ShardFiles(store)
            try:
                commit = read_commit(files, shard)
            except FileNotFoundError:
                return _ShardCheck(None, [])
            except ValueError as error:
                return _ShardCheck(None, [f"has a damaged commit record ({error})"])
            if problems.conditions_bad:  # nothing to compare the labels with
                return _ShardCheck(commit, [], manifest.rows(files, shard))
            found = check_shard(files, plan, shard, commit, conditions)
            return _ShardCheck(commit, found, manifest.rows(files, shard))

        shards = range(plan.num_shards)
        for shard, check in zip(shards, in_order(look, shards, _width(store)), strict=True):
            count = plan.locate(shard)[2]
            if check.problems:
                problems.shards[shard].extend(check.problems)
            elif check.commit is None:
                problems.missing.append(shard)
            if check.commit is not None:
                commits.append(check.commit)
                problems.checked += count
                manifest.compare(shard, check.rows)
            if on_shard is not None:
                on_shard(count)
        _check_strays(store, plan, problems)
        if len(commits) == plan.num_shards:
            _check_index(store, plan, commits, problems)
            manifest.report(problems)
    return problems


@dataclass(frozen=True)
class _ShardCheck:
    """What was found out about a shard.

    Attributes:
        commit: its commit record; None if it has none that can be read.
        problems: what is wrong with it.
        rows: its parquet rows, to compare the manifest with, or the error that reading them raised.
    """

    commit: ShardCommit | None
    problems: list[str]
    rows: pa.Table | Exception | None = None


def _width(store: Store) -> int:
    """How many shards to check at the same time. Each takes about four times its tar in memory."""
    if store.width == 1:
        return 1
    largest = max(store.sizes(SHARDS).values(), default=0)
    return max(1, min(store.width, _MEMORY // (4 * largest + 1)))


def _read_conditions(store: Store, plan: Plan, problems: Problems) -> Conditions | None:
    if plan.kind == "synth":
        return None
    try:
        return Conditions.from_parquet(store.read(CONDITIONS), plan)
    except FileNotFoundError:
        problems.general.append(f"{CONDITIONS} is missing")
        problems.conditions_bad = True
    except UserError as error:
        problems.general.append(str(error))
        problems.conditions_bad = True
    return None


def _check_strays(store: Store, plan: Plan, problems: Problems) -> None:
    """Report files in the shard folders that belong to no shard of the plan."""
    for folder, planned in planned_files(plan.num_shards).items():
        strays = [name for name in store.list(folder) if name not in planned]
        if strays:
            problems.general.append(
                f"{folder}/ holds {len(strays)} files outside the plan, such as {strays[0]}"
            )


def _check_index(store: Store, plan: Plan, commits: list[ShardCommit], problems: Problems) -> None:
    for name, document in make_index(plan, commits):
        try:
            if decode(dict[str, Any], store.read(name, MAX_JSON_BYTES)) != document:
                problems.general.append(f"{name} does not match the commit records")
        except FileNotFoundError:
            problems.general.append(
                f"{name} is missing; run the ppgen command that made the directory again to finish it"
            )
        except ValueError as error:
            problems.general.append(f"{name} is damaged ({error})")


class _ManifestCheck:
    """Compares the manifest, one row group for each shard, with the parquet rows of the shards, in their order."""

    def __init__(self, store: Store, plan: Plan) -> None:
        self._store, self._plan = store, plan
        self._general = ""  # a problem of the whole file; if there is one, no rows are compared
        self._differing: list[int] = []
        self._stack = ExitStack()
        self._manifest: pq.ParquetFile | None = None

    def __enter__(self) -> _ManifestCheck:
        with self._reading():
            self._manifest = open_table(self._stack.enter_context(self._store.open(MANIFEST)))
            groups, rows = self._manifest.num_row_groups, self._manifest.metadata.num_rows
            if (groups, rows) != (self._plan.num_shards, self._plan.samples):
                self._general = f"{MANIFEST} has {rows} rows in {groups} groups, planned {self._plan.samples} in {self._plan.num_shards}"
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def rows(self, files: ShardFiles, shard: int) -> pa.Table | Exception:
        """The parquet rows of a shard, or the error that reading them raised. Several threads may call this."""
        if self._general:
            return ValueError(self._general)
        try:
            return read_rows(files, self._plan, shard) if files.table is None else files.table
        except _UNREADABLE as error:
            return error

    def compare(self, shard: int, rows: pa.Table | Exception | None) -> None:
        """Compare the manifest's rows of a shard with the shard's own."""
        if self._general or rows is None:
            return
        with self._reading():
            if isinstance(rows, Exception):
                raise rows
            if not read_table(self._manifest, len(rows), group=shard).equals(rows):
                self._differing.append(shard)

    def report(self, problems: Problems) -> None:
        """Add what was found to `problems`."""
        for shard in self._differing:
            problems.shards[shard].append(f"{MANIFEST} does not match {meta_path(shard)}")
        if self._general:
            problems.general.append(self._general)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            self._general = f"{error.filename or MANIFEST} is missing"
        except _UNREADABLE as error:
            self._general = f"{MANIFEST} cannot be checked ({error})"


def requeue_shards(store: Store, plan: Plan, problems: Problems) -> str:
    """Delete the commit records of bad shards, so that the next run makes them again. Returns what was done, in words.

    The index is deleted too: the directory is not finished until the shards are made again, and readers must notice that.

    Raises:
        UserError: another ppgen holds the directory, or it cannot be written.
    """
    removed = 0
    with exclusive(store):
        try:
            store.delete(INDEX)
            for shard in problems.shards:
                store.delete(commit_path(shard))
            if problems.conditions_bad:
                store.delete(CONDITIONS)
            for folder, planned in planned_files(plan.num_shards).items():
                strays = set(store.list(folder)) - planned
                for name in filter(_OURS.fullmatch, strays):  # files that ppgen did not write are kept
                    store.delete(f"{folder}/{name}")
                    removed += 1
        except OSError as error:
            raise UserError(
                f"cannot write to {store} ({error.strerror or error}); make it writable"
            ) from error
    done = [f"{len(problems.shards)} of {plan.num_shards} shards are queued again"]
    done += [f"{removed} files outside the plan were deleted"] if removed else []
    done += [f"{CONDITIONS} will be made again"] if problems.conditions_bad else []
    return ", ".join(done)
