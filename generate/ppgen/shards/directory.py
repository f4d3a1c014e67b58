"""The shard directory as a run finds it: new, ours to resume, or not ours at all; and what is left to do in it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ppcore.errors import UserError
from ppcore.shards import COMMITS, CONDITIONS, META, PLAN, SHARDS, commit_path, meta_path, tar_path
from ppcore.storage import MAX_JSON_BYTES, Store, parse_json
from ppgen.plan import (
    Conditions,
    MergedPlan,
    Plan,
    ShardPlan,
    decode_any_plan,
    decode_plan,
    encode_plan,
    plan_differences,
)

_MAX_COMMIT_BYTES = 1 << 20


def read_plan(store: Store) -> Plan:
    """The plan of a directory that was not merged. Raises UserError when there is none."""
    return decode_plan(_read_plan_file(store), store.path(PLAN))


def read_any_plan(store: Store) -> Plan | MergedPlan:
    """The plan of a directory, merged or not. Raises UserError."""
    return decode_any_plan(_read_plan_file(store), store.path(PLAN))


def _read_plan_file(store: Store) -> bytes:
    try:
        return store.read(PLAN, MAX_JSON_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"{store} is no shard directory (it has no {PLAN}); make one with ppgen synth or ppgen pseudo"
        ) from error


def reconcile_plan(store: Store, request: Plan) -> Plan:
    """The plan to run in this directory: the request in a new one, the stored plan in one it equals. Writes nothing.

    Raises:
        UserError: the directory belongs to something else, holds another plan, or cannot be written.
    """
    if not store.exists(PLAN):
        require_empty(store)
        require_writable(store)
        return request
    stored = read_plan(store)
    if stored.condition is not None and request.condition is not None and store.exists(CONDITIONS):
        # The stored table is the plan's, even where this machine's arithmetic gives other last bits for the same
        # target, classifier and settings. Its own checksum is verified when it is read.
        request = request.with_conditions(stored.condition["sha256"])
    differences = plan_differences(stored, request)
    if differences:
        raise UserError(
            f"{store} was made with another request ({'; '.join(differences)}); repeat that request to resume it, or give another "
            f"--out"
        )
    require_writable(store)
    return stored


def create(store: Store, plan: Plan, conditions: Conditions | None) -> None:
    """Write plan.json and conditions.parquet where they are not there yet, and sweep what a killed run left."""
    try:
        if not store.exists(PLAN):
            store.write_atomic(PLAN, encode_plan(plan))
        if conditions is not None and not store.exists(CONDITIONS):
            store.write_atomic(CONDITIONS, conditions.to_parquet())
    except OSError as error:
        raise UserError(
            f"cannot write to {store} ({error.strerror or error}); give a writable --out"
        ) from error
    sweep(store)


def sweep(store: Store) -> int:
    """Delete the temporary files of a killed run; returns how many."""
    return sum(store.sweep(folder) for folder in ("", SHARDS, META, COMMITS))


@contextmanager
def exclusive(store: Store) -> Iterator[None]:
    """Hold a local directory against a second run of ppgen; the lock goes with the process, however it ends.

    Raises:
        UserError: another run holds it, or its folders are links to elsewhere.
    """
    if not store.is_local:
        yield
        return
    _require_own_folders(store)
    with Path(store.path(PLAN)).open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another ppgen is writing to {store}; wait for it or stop it first") from error
        yield


def read_commit(store: Store, shard: int) -> dict[str, Any]:
    """A shard's commit record.

    Raises:
        FileNotFoundError: not committed.
        ValueError: damaged.
    """
    return require_commit(parse_json(store.read(commit_path(shard), _MAX_COMMIT_BYTES)))


def require_commit(record: Any) -> dict[str, Any]:
    """A commit record with all that is looked up in one, of the right types. Raises ValueError."""
    try:
        files = [(record[name]["bytes"], record[name]["sha256"]) for name in ("tar", "parquet")]
        told = [record["fingerprint"], record["samples"], record["first_index"], record["versions"], *files]
    except (KeyError, TypeError, IndexError):
        raise ValueError("not a commit record") from None
    kinds = [str, int, int, dict, tuple, tuple]
    if not all(map(isinstance, told, kinds)) or not all(
        isinstance(size, int) and isinstance(digest, str) for size, digest in files
    ):
        raise ValueError("not a commit record")
    return record


def pending_shards(store: Store, plan: ShardPlan) -> list[int]:
    """The shards without a sound commit: no record, a record of another plan, or files of another size than recorded."""
    recorded = set(store.list(COMMITS))
    return [
        shard
        for shard in range(plan.num_shards)
        if Path(commit_path(shard)).name not in recorded or not _is_sound(store, plan, shard)
    ]


def _is_sound(store: Store, plan: ShardPlan, shard: int) -> bool:
    try:
        record = read_commit(store, shard)
        sizes = store.size(tar_path(shard)), store.size(meta_path(shard))
    except (FileNotFoundError, ValueError):
        return False
    planned = record["fingerprint"] == plan.shard_fingerprint(shard)
    return planned and sizes == (record["tar"]["bytes"], record["parquet"]["bytes"])


def require_empty(store: Store) -> None:
    """Raise UserError when the directory holds anything."""
    if store.is_local and Path(store.root).exists() and not Path(store.root).is_dir():
        raise UserError(f"{store} is a file; give a directory as --out")
    found = store.list()
    if found:
        raise UserError(
            f"{store} is not empty and was not made by ppgen (it holds {found[0]!r} and no {PLAN}); give a new or empty --out"
        )


def require_writable(store: Store) -> None:
    """Raise UserError when a local directory cannot be written or made."""
    if not store.is_local:
        return
    _require_own_folders(store)
    folder = Path(store.root).absolute()
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to {store} ({folder} is not a writable directory); give another --out")


def _require_own_folders(store: Store) -> None:
    """Files are deleted in these folders: leftovers of killed runs, strays. Behind a link they might be somebody else's."""
    for folder in (SHARDS, META, COMMITS):
        if Path(store.path(folder)).is_symlink():
            raise UserError(
                f"{store.path(folder)} is a symbolic link and ppgen changes nothing outside {store}; put the folder itself there, "
                f"or give another --out"
            )
