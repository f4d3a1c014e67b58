"""Python loads this file in every process that has this folder on its path. It simulates a fault of the machine, given by $FAULT:

full:FOLDER   nothing can be written below the folder: its disk is full
skew:SECONDS  the clock is wrong
locks         the file system refuses locks, as NFS without its lock service
"""

import errno
import os

kind, _, detail = os.environ.get("FAULT", "").partition(":")

if kind == "full":
    real_replace = os.replace

    def replace(source, target, **options):  # type: ignore[no-untyped-def]
        """Our files are written under a temporary name and then renamed."""
        if os.path.abspath(target).startswith(detail):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        return real_replace(source, target, **options)

    os.replace = replace  # type: ignore[assignment]

if kind == "skew":
    import time

    real_time = time.time
    time.time = lambda: real_time() + float(detail)

if kind == "locks":
    import fcntl

    def refuse(*_):  # type: ignore[no-untyped-def]
        """No lock is granted."""
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    fcntl.flock = refuse
    fcntl.lockf = refuse
