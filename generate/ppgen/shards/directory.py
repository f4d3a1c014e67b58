"""Which directory a run may use: a new one, or one with the same plan; and the locks of its writers."""

from __future__ import annotations

import hashlib
import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ppcore.errors import UserError
from ppcore.shards import (
    COMMITS,
    CONDITIONS,
    LOGS,
    META,
    PAGES,
    PLAN,
    SHARDS,
    commit_path,
    meta_path,
    tar_path,
)
from ppcore.storage import MAX_JSON_BYTES, HeldError, Store, hold, in_order
from ppgen.plan import Conditions, Plan, decode_plan, encode_plan, plan_differences
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


_PART = re.compile(r"part-\d+-of-\d+")
_PATIENCE_S = 5.0


def reconcile_plan(store: Store, request: Plan) -> Plan:
    """The plan to run in this directory: the request if it is new, the stored plan if it equals the request. Writes nothing.

    Raises:
        UserError: the directory belongs to something else, holds another plan, or cannot be written.
    """
    if not store.exists(PLAN):
        require_empty(store)
        require_writable(store)
        return request
    stored = read_plan(store)
    differences = request_differences(stored, request)
    if differences:
        raise UserError(
            f"{store} was made with another request ({'; '.join(differences)}); repeat that request to resume it, or give another "
            f"--out"
        )
    require_writable(store)
    return stored


def request_differences(stored: Plan, request: Plan) -> list[str]:
    """See :func:`ppgen.plan.plan_differences`. The last bits of the soft labels may differ: another machine may compute others for the
    same target, classifier and settings, and the stored table is the one that counts. Its checksum is verified when it is read.
    """
    if stored.condition is not None and request.condition is not None:
        request = request.with_conditions(stored.condition["sha256"])
    return plan_differences(stored, request)


@contextmanager
def claimed(
    store: Store, plan: Plan, conditions: Conditions | None, part: tuple[int, int] | None = None
) -> Iterator[Plan]:
    """Make the directory of a plan if it does not exist, and hold it.

    Yields the plan of the directory: another run of the same request, with a source at another place, may have been faster.

    Args:
        conditions: of a pseudo plan: the table to write if the directory has none.
        part: (I, N): hold part I of N of the directory, see :func:`hold_part`; None holds all of it, see :func:`exclusive`.

    Raises:
        UserError: another run holds it, or it cannot be written.
    """
    create_plan(store, plan)
    plan = read_plan(store)
    with exclusive(store) if part is None else hold_part(store, part):
        if conditions is not None:
            _write_conditions(store, plan, conditions.to_parquet())
        yield plan


def create_plan(store: Store, plan: Plan, *, adopt: bool = False) -> None:
    """Write the plan of a directory that has none. Of two runs that begin at the same time, one writes it.

    Args:
        adopt: do not compare the plan that another run has just written.

    Raises:
        UserError: another run has just written another plan, or the directory cannot be written.
    """
    with _writing(store):
        created = not store.exists(PLAN) and store.create(PLAN, encode_plan(plan))
    if not created and not adopt and (differences := request_differences(read_plan(store), plan)):
        raise UserError(
            f"another run with another request ({'; '.join(differences)}) has just started in {store}; give another --out"
        )


def _write_conditions(store: Store, plan: Plan, table: bytes) -> None:
    """Write conditions.parquet if it is missing. If the run that wrote the plan has other last bits, wait for its table."""
    waited = 0.0
    while not store.exists(CONDITIONS):
        assert plan.condition is not None
        if hashlib.sha256(table).hexdigest() == plan.condition["sha256"]:
            with _writing(store):
                store.write_atomic(CONDITIONS, table)
        elif waited > _PATIENCE_S:
            raise UserError(
                f"{store} has lost its {CONDITIONS}, and the soft labels computed here differ from it in the last bits; restore the file "
                f"or give another --out"
            )
        else:
            time.sleep(0.2)
            waited += 0.2


@contextmanager
def exclusive(store: Store) -> Iterator[None]:
    """Hold a local directory against every other ppgen. The lock ends with the process, however it ends.

    The lock is on plan.json; for file systems without locks see :func:`ppcore.storage.hold`. Object stores have none: two runs of one
    request write the same bytes there.

    Temporary files of killed runs are deleted at the beginning and at the end. Nobody else can have any while the lock is held.

    Raises:
        UserError: another run holds it, its folders are links to elsewhere, or it cannot be written.
    """
    if not store.is_local:
        yield
        return
    _require_own_folders(store)
    parts = [name for name in store.list(LOGS) if _PART.fullmatch(name)]
    with ExitStack() as held:
        try:
            with _writing(store):
                held.enter_context(_hold(store, PLAN, _PATIENCE_S if parts else 0.0))
                for name in parts:
                    held.enter_context(_hold(store, f"{LOGS}/{name}"))
                _sweep(store)
        except HeldError as error:
            raise UserError(
                f"another ppgen is writing to {store} (it holds {Path(str(error)).name}); wait for it or stop it first"
            ) from None
        try:
            yield
        finally:
            with suppress(
                OSError
            ):  # the file system may have become read-only; the next run deletes them first
                _sweep(store)


@contextmanager
def hold_part(store: Store, part: tuple[int, int]) -> Iterator[None]:
    """Hold part I of N of a local directory. Other parts may be held at the same time, the whole directory may not.

    The lock is on an empty file in logs/. Whoever holds a part has seen plan.json free afterwards, and :func:`exclusive` holds
    plan.json before it looks at the parts: of the two, one sees the other.

    Raises:
        UserError: another run holds this part or the whole directory, or it cannot be written.
    """
    if not store.is_local:
        yield
        return
    _require_own_folders(store)
    name = f"{LOGS}/part-{part[0]}-of-{part[1]}"
    with ExitStack() as held:
        try:
            with _writing(store):
                store.append(name, b"")
                held.enter_context(_hold(store, name))
                with _hold(store, PLAN, _PATIENCE_S):
                    pass
        except HeldError as error:
            which = f"part {part[0]}/{part[1]} of" if str(error).endswith(name) else "all of"
            raise UserError(
                f"another ppgen is making {which} {store}; wait for it or stop it first"
            ) from None
        yield


@contextmanager
def _hold(store: Store, name: str, patience_s: float = 0.0) -> Iterator[None]:
    """Hold a file, see :func:`ppcore.storage.hold`. Tries again for `patience_s`: parts hold plan.json for a moment when they begin."""
    start = time.monotonic()
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(hold(Path(store.path(name))))
                break
            except HeldError:
                if time.monotonic() - start >= patience_s:
                    raise
                time.sleep(random.uniform(0.01, 0.1))
        yield


def _sweep(store: Store) -> None:
    for folder in ("", SHARDS, META, COMMITS, PAGES):
        store.sweep(folder)


@contextmanager
def _writing(store: Store) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write to {store} ({error.strerror or error}); give a writable --out"
        ) from error


def require_empty(store: Store) -> None:
    """Raise UserError if the directory is not empty."""
    if store.is_local and Path(store.root).exists() and not Path(store.root).is_dir():
        raise UserError(f"{store} is a file; give a directory as --out")
    found = store.list()
    if found:
        raise UserError(
            f"{store} is not empty and was not made by ppgen (it holds {found[0]!r} and no {PLAN}); give a new or empty --out"
        )


def require_writable(store: Store) -> None:
    """Raise UserError if a local directory cannot be written or created."""
    if not store.is_local:
        return
    _require_own_folders(store)
    folder = Path(store.root).absolute()
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to {store} ({folder} is not a writable directory); give another --out")


def _require_own_folders(store: Store) -> None:
    """Refuse folders that are links: ppgen deletes temporary files in them, and behind a link these may belong to somebody else."""
    for folder in (SHARDS, META, COMMITS, PAGES):
        if Path(store.path(folder)).is_symlink():
            raise UserError(
                f"{store.path(folder)} is a symbolic link and ppgen changes nothing outside {store}; put the folder itself there, "
                f"or give another --out"
            )
