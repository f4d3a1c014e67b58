"""Whose directory it is: new, ours to resume, or not ours at all; and who may write to it now."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ppcore.errors import UserError
from ppcore.shards import COMMITS, CONDITIONS, META, PAGES, PLAN, SHARDS
from ppcore.storage import HeldError, Store, hold
from ppgen.plan import Conditions, MergedPlan, Plan, encode_plan, plan_differences
from ppgen.shards.state import read_any_plan, read_plan


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


@contextmanager
def claimed(store: Store, plan: Plan, conditions: Conditions | None) -> Iterator[Plan]:
    """Make the directory of a plan where it is not there yet, and hold it (see :func:`exclusive`).

    Yields the plan of the directory: another run of the same request, whose source lies elsewhere, may have been a moment earlier.

    Args:
        conditions: of a pseudo plan: the table to write where there is none.

    Raises:
        UserError: another run holds it, or it cannot be written.
    """
    create_plan(store, plan)
    plan = read_plan(store)
    with exclusive(store):
        if conditions is not None and not store.exists(CONDITIONS):
            with _writing(store):
                store.write_atomic(CONDITIONS, conditions.to_parquet())
        yield plan


def create_plan(store: Store, plan: Plan | MergedPlan) -> None:
    """Write the plan of a directory that has none; of two runs that begin at the same moment one makes the directory its own.

    Raises:
        UserError: it is another's meanwhile, or it cannot be written.
    """
    with _writing(store):
        created = not store.exists(PLAN) and store.create(PLAN, encode_plan(plan))
    if not created and not _is_same_request(read_any_plan(store), plan):
        raise UserError(
            f"another run with another request has made {store} its own at this moment; give another --out"
        )


def _is_same_request(stored: Plan | MergedPlan, plan: Plan | MergedPlan) -> bool:
    if isinstance(stored, Plan) and isinstance(plan, Plan):
        return not plan_differences(stored, plan)
    return stored.fingerprint == plan.fingerprint


@contextmanager
def exclusive(store: Store) -> Iterator[None]:
    """Hold a local directory against a second ppgen; the lock goes with the process, however it ends.

    It lies on plan.json, which is there anyway, so nothing has to be cleaned up; on file systems without locks see
    :func:`ppcore.storage.hold`. Object stores have none, and two runs of one request write the same bytes there.

    Temporary files, of a killed run or of this one, are deleted at the beginning and at the end: nobody else has any as long as
    the lock is held.

    Raises:
        UserError: another run holds it, its folders are links to elsewhere, or it cannot be written.
    """
    if not store.is_local:
        yield
        return
    _require_own_folders(store)
    with ExitStack() as held:
        try:
            with _writing(store):
                held.enter_context(hold(Path(store.path(PLAN))))
                _sweep(store)
        except HeldError:
            raise UserError(f"another ppgen is writing to {store}; wait for it or stop it first") from None
        try:
            yield
        finally:
            with suppress(OSError):  # of a file system that turned read-only; the next run sweeps first
                _sweep(store)


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
    for folder in (SHARDS, META, COMMITS, PAGES):
        if Path(store.path(folder)).is_symlink():
            raise UserError(
                f"{store.path(folder)} is a symbolic link and ppgen changes nothing outside {store}; put the folder itself there, "
                f"or give another --out"
            )
