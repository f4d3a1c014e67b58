"""Standard error of a worker, kept in a file beside the data: bounded in size, complete up to a crash."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import threading
from pathlib import Path

from ppcore.errors import UserError
from ppcore.storage.store import Store

_MAX_BYTES = 1 << 20  # of the file; a larger one is cut to its last half
_LOOK_S = 0.5
_UPLOAD_S = 30.0
_log = logging.getLogger(__name__)


class KeptStderr:
    """Redirects standard error of this process to a file, and copies it from the file to where it went before.

    It is written to the file unbuffered, so that the last messages before a crash are kept. If the file cannot be made, a warning is
    logged and standard error is not redirected.

    Args:
        store: directory of the file. To an object store it is uploaded every 30 seconds; a crash may lose the last 30 seconds.
        name: of the file; an empty name redirects nothing.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        self._copied = self._uploaded = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="standard error", daemon=True)
        self._before = -1
        if not name:
            return
        try:
            self._file = self._make_file()
            self._before = os.dup(2)
            os.dup2(self._file, 2)
        except (OSError, UserError) as error:
            _log.warning("standard error is not kept in %s (%s)", store.path(name), error)
            return
        self._thread.start()

    def close(self) -> None:
        """Undo the redirection."""
        if not self._thread.is_alive():
            return
        self._stop.set()
        self._thread.join()
        os.dup2(self._before, 2)
        self._look()
        self._upload()
        os.close(self._file)
        os.close(self._before)

    def _make_file(self) -> int:
        if self._store.is_local:
            self._store.append(self._name, b"")
            self._path = Path(self._store.path(self._name))
            return os.open(self._path, os.O_RDWR | os.O_APPEND)
        descriptor, path = tempfile.mkstemp()
        self._path = Path(path)
        self._path.unlink()  # the open descriptor is enough, and a killed process leaves no file
        return descriptor

    def _follow(self) -> None:
        waited = 0.0
        while not self._stop.wait(_LOOK_S):
            self._look()
            waited += _LOOK_S
            if waited >= _UPLOAD_S:
                waited = 0.0
                self._upload()

    def _look(self) -> None:
        """Copy new text to the old standard error; cut the file if it is too large."""
        with contextlib.suppress(OSError):
            while new := os.pread(self._file, _MAX_BYTES, self._copied):
                self._copied += len(new)
                os.write(self._before, new)
            if self._copied >= _MAX_BYTES:
                last = os.pread(self._file, _MAX_BYTES // 2, self._copied - _MAX_BYTES // 2)
                os.ftruncate(self._file, 0)
                os.lseek(self._file, 0, os.SEEK_SET)
                os.write(self._file, b"(earlier lines were dropped)\n" + last)
                self._copied, self._uploaded = os.fstat(self._file).st_size, 0

    def _upload(self) -> None:
        if self._store.is_local or self._copied == self._uploaded:
            return
        with contextlib.suppress(OSError, UserError):
            self._store.write_atomic(self._name, os.pread(self._file, _MAX_BYTES, 0))
            self._uploaded = self._copied
