"""One writer for each directory: a lock of the kernel or, on file systems without locks, a lease file that is renewed."""

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
_LEASE_S = 30.0  # a lease that was not renewed for so long has expired; the same in every ppgen that shares a file system
# Errors of Lustre mounted without `flock`, NFS without its lock service, user-space file systems, and NFSv4 on a read-only handle.
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EBADF}
_log = logging.getLogger(__name__)


class HeldError(Exception):
    """Another process holds the lock."""


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Lock a file against other processes, also of other machines on a shared file system.

    The kernel releases its lock when the process ends. On a file system without locks, a lease file beside the file (`*.lock`) names
    the holder and is renewed every ten seconds, and a warning is logged. A process that finds a lease waits half a minute for it to
    expire, so the lease of a killed process is taken over. The lease is weaker than a lock in one case: its holder is suspended for
    longer than half a minute and then continues.

    Args:
        path: an existing file.

    Raises:
        HeldError: another process holds the lock.
        OSError: the file cannot be opened, or neither a lock nor a lease is possible.
    """
    handle = _locked(path)
    if handle is not None:
        with handle:
            yield
        return
    _log.warning(
        "%s is on a file system without locks; the lease file %s keeps a second ppgen from writing",
        path,
        _lease_of(path).name,
    )
    lease = SoftFileLease(
        _lease_of(path),
        lease_duration=_LEASE_S,
        on_compromise=lambda _: _log.warning("the lease on %s was lost: another process took it over", path),
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
    """Open and lock the file; None if the file system has no locks."""
    while True:
        handle = _open(path)
        try:
            if not lock_descriptor(handle.fileno(), blocking=False):
                raise HeldError(str(path))
            if os.path.samestat(os.fstat(handle.fileno()), os.stat(path)):
                return handle
            handle.close()  # the file was replaced after it was opened: lock the new one
        except BaseException as error:
            handle.close()
            if isinstance(error, OSError) and error.errno in _NO_LOCKS:
                return None
            raise


def _open(path: Path) -> IO[bytes]:
    """Open for writing, because NFSv4 gives exclusive locks only on writable handles; else for reading."""
    try:
        return path.open("r+b")
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM):
            raise
        return path.open("rb")  # a read-only file in a writable directory
