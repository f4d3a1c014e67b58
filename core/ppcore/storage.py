"""One path type for local directories and object stores (any fsspec URL), with atomic whole-object writes."""

from __future__ import annotations

import os
import random
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

from ppcore.errors import UserError

TEMP_PREFIX = ".tmp-"
_ATTEMPTS = 6
_FIRST_DELAY_S = 0.3
_FINAL_ERRORS = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    ValueError,
    TypeError,
)
# Without these a lost connection hangs a worker for good; s3fs passes them to botocore.
_DEFAULT_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 2}}}
}

T = TypeVar("T")


def is_url(path: str) -> bool:
    """Whether `path` names an object store (`scheme://...`) and not a local file."""
    return "://" in path


class Store:
    """A directory, local or remote; every other name is relative to it.

    Promise: an object written through :meth:`write_atomic` or :meth:`publish` exists whole or not at all. Locally that is
    a uniquely named temporary file, fsync, rename, fsync of the directory; object stores make an object visible only when
    its upload is complete.

    Args:
        root: local path or fsspec URL (`s3://bucket/prefix`, `gs://`, `hf://`, `memory://`).
    """

    def __init__(self, root: str | Path) -> None:
        self.root = str(root).rstrip("/") or "/"
        self.is_local = not is_url(self.root)
        self._filesystem: Any = None
        if not self.is_local:
            self._filesystem, self._base = _filesystem(self.root)

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return Store, (self.root,)

    def __str__(self) -> str:
        return self.root

    def path(self, name: str) -> str:
        """Full path or URL of `name`, for messages and indexes."""
        return f"{self.root}/{name}" if name else self.root

    def read(self, name: str) -> bytes:
        """The whole object. Raises FileNotFoundError."""
        if self.is_local:
            return Path(self.root, name).read_bytes()
        return _retry(lambda: self._filesystem.cat_file(self._key(name)))

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """`length` bytes from `start` on, fewer at the end of the object. Raises FileNotFoundError."""
        if self.is_local:
            with Path(self.root, name).open("rb") as handle:
                handle.seek(start)
                return handle.read(length)
        return _retry(lambda: self._filesystem.cat_file(self._key(name), start=start, end=start + length))

    def open(self, name: str) -> IO[bytes]:
        """A readable binary file; remote ones are read ahead in blocks."""
        if self.is_local:
            return Path(self.root, name).open("rb")
        return _retry(lambda: self._filesystem.open(self._key(name), "rb"))

    def exists(self, name: str) -> bool:
        if self.is_local:
            return Path(self.root, name).exists()
        return _retry(lambda: bool(self._filesystem.exists(self._key(name))))

    def size(self, name: str) -> int:
        """Bytes of the object. Raises FileNotFoundError."""
        if self.is_local:
            return Path(self.root, name).stat().st_size
        return int(_retry(lambda: self._filesystem.size(self._key(name))))

    def list(self, name: str = "") -> list[str]:
        """Sorted base names directly below `name`, temporary files left out; empty when there is no such folder."""
        try:
            if self.is_local:
                found = [entry.name for entry in os.scandir(Path(self.root, name))]
            else:
                entries = _retry(lambda: self._filesystem.ls(self._key(name), detail=False, refresh=True))
                found = [str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in entries]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(entry for entry in found if entry and not entry.startswith(TEMP_PREFIX))

    def delete(self, name: str) -> None:
        """Remove the object if it is there."""
        try:
            if self.is_local:
                Path(self.root, name).unlink()
            else:
                _retry(lambda: self._filesystem.rm_file(self._key(name)))
        except FileNotFoundError:
            return

    def stage(self, name: str) -> Path:
        """A fresh local path to write `name` into before :meth:`publish`; same file system for local stores."""
        temp_name = f"{TEMP_PREFIX}{uuid.uuid4().hex}-{Path(name).name}"
        if not self.is_local:
            return Path(tempfile.gettempdir(), temp_name)
        folder = Path(self.root, name).parent
        folder.mkdir(parents=True, exist_ok=True)
        return folder / temp_name

    def publish(self, staged: Path, name: str) -> None:
        """Make the staged file visible as `name`, whole; the staged file is gone afterwards."""
        try:
            if self.is_local:
                with staged.open("rb") as handle:
                    os.fsync(handle.fileno())
                final = Path(self.root, name)
                os.replace(staged, final)
                _fsync_directory(final.parent)
            else:
                _retry(lambda: self._filesystem.put_file(str(staged), self._key(name)))
        finally:
            staged.unlink(missing_ok=True)

    def write_atomic(self, name: str, data: bytes) -> None:
        """Write `data` as the whole object `name`."""
        if not self.is_local:
            _retry(lambda: self._filesystem.pipe_file(self._key(name), data))
            return
        staged = self.stage(name)
        try:
            staged.write_bytes(data)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
        self.publish(staged, name)

    def sweep(self, name: str = "") -> int:
        """Delete temporary files that a killed writer left directly below `name`; returns how many."""
        if not self.is_local:
            return 0
        leftovers = list(Path(self.root, name).glob(f"{TEMP_PREFIX}*"))
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)
        return len(leftovers)

    def _key(self, name: str) -> str:
        return f"{self._base}/{name}" if name else self._base


def _filesystem(url: str) -> tuple[Any, str]:
    import fsspec

    protocol = url.split("://", 1)[0]
    options = _DEFAULT_OPTIONS.get(protocol, {})
    try:
        # A cached listing would hide what other workers committed a moment ago.
        filesystem, base = fsspec.core.url_to_fs(url, use_listings_cache=False, **options)
    except (ImportError, ValueError) as error:
        raise UserError(
            f"cannot open {protocol}:// paths ({error}); install the fsspec package for it, "
            f"for example pip install 'pptransfer[s3]'"
        ) from error
    return filesystem, str(base).rstrip("/")


def _retry(action: Callable[[], T]) -> T:
    """Run `action`, repeating transient failures with exponential back-off and jitter; the last error is raised."""
    for attempt in range(_ATTEMPTS):
        try:
            return action()
        except _FINAL_ERRORS:
            raise
        except Exception:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_FIRST_DELAY_S * 2**attempt * random.uniform(0.5, 1.5))
    raise AssertionError("unreachable")


def _fsync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
