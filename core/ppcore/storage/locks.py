"""One writer a directory, on the file systems that clusters have: a lock of the kernel, else a lease that is renewed."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import SoftFileLease, Timeout, lock_descriptor

LEASE_SUFFIX = ".lock"
_LEASE_S = 30.0  # a holder that has not renewed its lease for so long is dead; every ppgen must agree on it
# Lustre mounted without `flock`, NFS without its lock service, user-space file systems; NFSv4 on a handle that cannot be written.
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EBADF}
_log = logging.getLogger(__name__)


class HeldError(Exception):
    """Another process holds the file."""


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold a file against other processes, of other machines too where the file system is shared.

    The kernel's lock goes with the process, however it ends. Where the file system has none, a lease beside the file (`*.lock`) says
    who holds it and is renewed every ten seconds, one warning says so, and whoever finds another's lease watches it for half a
    minute: a killed holder's lapses. It is weaker in one case only: a holder that is stopped for that long and then goes on.

    Args:
        path: a file that is there.

    Raises:
        HeldError: another process holds it.
        OSError: it cannot be opened, or for neither of the two.
    """
    handle = _locked(path)
    if handle is not None:
        with handle:
            yield
        return
    _log.warning(
        "%s is on a file system without locks; a lease beside it, %s, keeps a second ppgen out",
        path,
        _lease_of(path).name,
    )
    lease = SoftFileLease(
        _lease_of(path),
        lease_duration=_LEASE_S,
        on_compromise=lambda _: _log.warning("the lease on %s was lost", path),
    )
    try:
        lease.acquire(timeout=1.5 * _LEASE_S)
    except Timeout:
        raise HeldError(str(path)) from None
    try:
        yield
    finally:
        lease.release()


def _lease_of(path: Path) -> Path:
    return path.with_name(path.name + LEASE_SUFFIX)


def _locked(path: Path) -> IO[bytes] | None:
    """The file, open and locked; None where there are no locks."""
    while True:
        handle = _open(path)
        try:
            if not lock_descriptor(handle.fileno(), blocking=False):
                raise HeldError(str(path))
            if os.path.samestat(os.fstat(handle.fileno()), os.stat(path)):
                return handle
            handle.close()  # the file was replaced between the two: what was locked is not the file any more
        except BaseException as error:
            handle.close()
            if isinstance(error, OSError) and error.errno in _NO_LOCKS:
                return None
            raise


def _open(path: Path) -> IO[bytes]:
    """NFSv4 locks exclusively what is open for writing, and nothing else."""
    try:
        return path.open("r+b")
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM):
            raise
        return path.open("rb")  # a file made read-only in a directory that can be written
