"""One path type for local directories and object stores (any fsspec URL), with atomic whole-object writes."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import uuid
from pathlib import Path
from typing import IO

from ppcore.storage.documents import MAX_OBJECT_BYTES, OutsideError, require_file, require_inside
from ppcore.storage.remote import Remote

TEMP_PREFIX = ".tmp-"
_WIDTH = 32  # requests to an object store at once
# What file systems without hard links answer.
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK}


def is_url(path: str) -> bool:
    """Whether `path` names an object store (`scheme://...`) and not a local file."""
    return "://" in path


class Store:
    """A directory, local or remote; every other name is relative to it.

    Promise: an object written through :meth:`write_atomic` or :meth:`publish` exists whole or not at all. Locally that is
    a uniquely named temporary file, fsync, rename, fsync of the directory; object stores make an object visible only when
    its upload is complete.

    Nothing outside is read or written: a local name that is, or lies behind, a symbolic link out of the directory raises OutsideError.

    Args:
        root: local path or fsspec URL (`s3://bucket/prefix`, `gs://`, `hf://`, `memory://`).

    Attributes:
        width: how many objects to ask for at once: a disk is no faster for it, a store that answers late is.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = str(root).rstrip("/") or "/"
        self._remote = Remote(self.root) if is_url(self.root) else None
        self.is_local = self._remote is None
        self.width = 1 if self.is_local else _WIDTH

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return Store, (self.root,)

    def __str__(self) -> str:
        return self.root

    def path(self, name: str) -> str:
        """Full path or URL of `name`, for messages and indexes."""
        return f"{self.root}/{name}" if name else self.root

    def _inside(self, name: str) -> Path:
        """The local path of `name`. Raises OutsideError where a link leads out of the directory."""
        require_inside(Path(self.root), name)
        return Path(self.root, name)

    def _below(self, name: str) -> Path:
        """The local path of `name`, to be replaced or deleted: it may be a link, the folder on the way may not lead out."""
        require_inside(Path(self.root), str(Path(name).parent))
        return Path(self.root, name)

    def read(self, name: str, limit: int = MAX_OBJECT_BYTES) -> bytes:
        """The whole object; a local one of more than `limit` bytes, or none that is a file, is refused with UserError.

        Raises FileNotFoundError.
        """
        if self._remote is None:
            path = self._inside(name)
            require_file(path, limit)
            return path.read_bytes()
        return self._remote.read(name)

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """`length` bytes from `start` on, fewer at the end of the object. Raises FileNotFoundError."""
        if self._remote is None:
            path = self._inside(name)
            require_file(path)
            with path.open("rb") as handle:
                handle.seek(start)
                return handle.read(length)
        return self._remote.call("cat_file", self._remote.key(name), start=start, end=start + length)

    def open(self, name: str) -> IO[bytes]:
        """A readable binary file; remote ones are read ahead in blocks."""
        if self._remote is None:
            path = self._inside(name)
            require_file(path)
            return path.open("rb")
        return self._remote.filesystem.open(self._remote.key(name), "rb")

    def exists(self, name: str) -> bool:
        if self._remote is None:
            return Path(self.root, name).exists()
        return bool(self._remote.call("exists", self._remote.key(name)))

    def size(self, name: str) -> int:
        """Bytes of the object. Raises FileNotFoundError."""
        if self._remote is None:
            return self._inside(name).stat().st_size
        return int(self._remote.call("size", self._remote.key(name)))

    def list(self, name: str = "") -> list[str]:
        """Sorted base names directly below `name`, temporary files left out; empty when there is no such folder."""
        try:
            if self._remote is None:
                found = [entry.name for entry in os.scandir(self._inside(name))]
            else:
                entries = self._remote.call("ls", self._remote.key(name), detail=False, refresh=True)
                found = [str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in entries]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(entry for entry in found if entry and not entry.startswith(TEMP_PREFIX))

    def sizes(self, name: str = "") -> dict[str, int]:
        """Base names directly below `name`, as :meth:`list` gives them, with their bytes: one listing and no look at each.

        Folders, local names that are no plain files, and links out of the directory are left out.
        """
        if self._remote is not None:
            found = self._remote.sizes(name)
        else:
            try:
                entries = list(os.scandir(self._inside(name)))
            except (FileNotFoundError, NotADirectoryError):
                return {}
            looks = {entry.name: self._look(f"{name}/{entry.name}", entry) for entry in entries}
            found = {
                entry: look.st_size for entry, look in looks.items() if look and stat.S_ISREG(look.st_mode)
            }
        return {entry: found[entry] for entry in sorted(found) if not entry.startswith(TEMP_PREFIX)}

    def _look(self, name: str, entry: os.DirEntry[str]) -> os.stat_result | None:
        """What an entry is; of a link what it leads to, None where that is outside or nothing."""
        try:
            return entry.stat() if not entry.is_symlink() else self._inside(name).stat()
        except (FileNotFoundError, OutsideError):
            return None

    def delete(self, name: str) -> None:
        """Remove the object if it is there."""
        try:
            if self._remote is None:
                self._below(name).unlink()
            else:
                self._remote.call("rm_file", self._remote.key(name))
        except FileNotFoundError:
            return

    def stage(self, name: str) -> Path:
        """A fresh local path to write `name` into before :meth:`publish`; same file system for local stores."""
        temp_name = f"{TEMP_PREFIX}{uuid.uuid4().hex}-{Path(name).name}"
        if self._remote is not None:
            return Path(tempfile.gettempdir(), temp_name)
        folder = self._below(name).parent
        folder.mkdir(parents=True, exist_ok=True)
        return folder / temp_name

    def publish(self, staged: Path, name: str) -> None:
        """Make the staged file visible as `name`, whole; the staged file is gone afterwards."""
        try:
            if self._remote is None:
                with staged.open("rb") as handle:
                    os.fsync(handle.fileno())
                final = Path(self.root, name)
                os.replace(staged, final)
                _fsync_directory(final.parent)
            else:
                self._remote.call(
                    "put_file", str(staged), self._remote.key(name), moved=staged.stat().st_size
                )
        finally:
            staged.unlink(missing_ok=True)

    def write_atomic(self, name: str, data: bytes) -> None:
        """Write `data` as the whole object `name`."""
        if self._remote is not None:
            self._remote.call("pipe_file", self._remote.key(name), data, moved=len(data))
            return
        staged = self.stage(name)
        try:
            staged.write_bytes(data)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
        self.publish(staged, name)

    def create(self, name: str, data: bytes) -> bool:
        """Write `data` as the whole object `name` unless there is one; whether what is there now is `data`.

        Of several writers at the same moment one wins: a hard link or a conditional put is made once. A store that knows no such put
        is asked before and read after.
        """
        if self._remote is not None:
            return self._remote.create(name, data)
        final, staged = Path(self.root, name), self.stage(name)
        try:
            staged.write_bytes(data)
            with staged.open("rb") as handle:
                os.fsync(handle.fileno())
            _make_once(staged, final, data)
        except (
            FileExistsError,
            FileNotFoundError,
        ):  # not found: who was first has swept the staged file away
            return self.read(name) == data
        finally:
            staged.unlink(missing_ok=True)
        _fsync_directory(final.parent)
        return True

    def append(self, name: str, data: bytes) -> None:
        """Add to a local file, which is made where there is none; for logs, which may be torn at the end."""
        path = self._inside(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as handle:
            handle.write(data)

    def sweep(self, name: str = "") -> int:
        """Delete temporary files that a killed writer left directly below `name`; returns how many."""
        if self._remote is not None:
            return 0
        leftovers = list(Path(self.root, name).glob(f"{TEMP_PREFIX}*"))
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)
        return len(leftovers)


def _make_once(staged: Path, final: Path, data: bytes) -> None:
    """Raises FileExistsError. Whole or not at all where there are hard links."""
    try:
        os.link(staged, final)
    except FileExistsError:
        if (
            os.stat(staged).st_nlink != 2
        ):  # NFS: the link was made and its answer lost, so that the client asked again
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with final.open("xb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())


def _fsync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
