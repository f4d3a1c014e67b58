"""One path type for local directories and object stores (any fsspec URL), with atomic whole-object writes."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeVar

from ppcore.places import local_path
from ppcore.storage.documents import MAX_OBJECT_BYTES, OutsideError, require_file, require_inside
from ppcore.storage.remote import Remote

TEMP_PREFIX = ".tmp-"
_WIDTH = 32  # parallel requests to an object store
# Errors of file systems without hard links.
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK}


def is_url(path: str) -> bool:
    """Whether `path` is a URL of an object store (`scheme://...`) and not a local path."""
    return "://" in path


class Store:
    """A local or remote directory. All names are relative to it.

    An object written with :meth:`write_atomic` or :meth:`publish` exists whole or not at all. Locally this takes a temporary file,
    fsync, rename and fsync of the directory; an object store shows an object only when its upload is complete.

    Nothing outside the directory is read or written: a local name that leads out of it through a symbolic link raises OutsideError.

    Args:
        root: local path (`~/` and `file://` too) or fsspec URL (`s3://bucket/prefix`, `gs://`, `hf://`, `memory://`).

    Attributes:
        width: how many objects to request in parallel; 1 for a local disk, which is not faster with more.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = local_path(str(root)).rstrip("/") or "/"
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
        """The local path of `name`. Raises OutsideError if a link leads out of the directory."""
        require_inside(Path(self.root), name)
        return Path(self.root, name)

    def _below(self, name: str) -> Path:
        """The local path of `name`, to replace or delete it: it may be a link itself, but its folder must be inside the directory."""
        require_inside(Path(self.root), str(Path(name).parent))
        return Path(self.root, name)

    def read(self, name: str, limit: int = MAX_OBJECT_BYTES) -> bytes:
        """Read a whole object.

        Args:
            limit: most bytes of a local file.

        Raises:
            FileNotFoundError: there is no such object.
            UserError: a local name is not a regular file, or is larger than `limit`.
        """
        if self._remote is None:
            path = self._inside(name)
            require_file(path, limit)
            return path.read_bytes()
        return self._remote.read(name)

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Read `length` bytes from `start`, fewer at the end of the object. Raises FileNotFoundError."""
        if self._remote is None:
            path = self._inside(name)
            require_file(path)
            with path.open("rb") as handle:
                handle.seek(start)
                return handle.read(length)
        return self._remote.call("cat_file", self._remote.key(name), start=start, end=start + length)

    def open(self, name: str) -> IO[bytes]:
        """Open an object as a readable binary file; remote ones are read ahead in blocks."""
        if self._remote is None:
            path = self._inside(name)
            require_file(path)
            return path.open("rb")
        return self._remote.filesystem.open(self._remote.key(name), "rb")

    def exists(self, name: str) -> bool:
        """Whether there is such an object."""
        if self._remote is None:
            return Path(self.root, name).exists()
        return bool(self._remote.call("exists", self._remote.key(name)))

    def size(self, name: str) -> int:
        """Bytes of the object. Raises FileNotFoundError."""
        if self._remote is None:
            return self._inside(name).stat().st_size
        return int(self._remote.call("size", self._remote.key(name)))

    def list(self, name: str = "") -> list[str]:
        """Sorted base names directly below `name`, without temporary files; empty if there is no such folder."""
        try:
            if self._remote is None:
                names = [entry.name for entry in os.scandir(self._inside(name))]
            else:
                entries = self._remote.call("ls", self._remote.key(name), detail=False, refresh=True)
                names = [str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in entries]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(entry for entry in names if entry and not entry.startswith(TEMP_PREFIX))

    def sizes(self, name: str = "") -> dict[str, int]:
        """Base name -> bytes of the files directly below `name`, sorted, from one listing.

        Folders, temporary files, local names that are not regular files, and links out of the directory are left out.
        """
        if self._remote is not None:
            sizes = self._remote.sizes(name)
        else:
            try:
                entries = list(os.scandir(self._inside(name)))
            except (FileNotFoundError, NotADirectoryError):
                return {}
            stats = {entry.name: self._stat(f"{name}/{entry.name}", entry) for entry in entries}
            sizes = {entry: s.st_size for entry, s in stats.items() if s and stat.S_ISREG(s.st_mode)}
        return {entry: sizes[entry] for entry in sorted(sizes) if not entry.startswith(TEMP_PREFIX)}

    def _stat(self, name: str, entry: os.DirEntry[str]) -> os.stat_result | None:
        """Status of an entry; links are followed, None if a link leads out of the directory or nowhere."""
        try:
            return entry.stat() if not entry.is_symlink() else self._inside(name).stat()
        except (FileNotFoundError, OutsideError):
            return None

    def delete(self, name: str) -> None:
        """Delete the object if it exists."""
        try:
            if self._remote is None:
                self._below(name).unlink()
            else:
                self._remote.call("rm_file", self._remote.key(name))
        except FileNotFoundError:
            return

    def stage(self, name: str) -> Path:
        """A temporary local path to write before :meth:`publish`, on the same file system for local stores."""
        temp_name = (
            f"{TEMP_PREFIX}{uuid.uuid4().hex}-{Path(name).name[-40:]}"  # with any name below 255 bytes
        )
        if self._remote is not None:
            return Path(tempfile.gettempdir(), temp_name)
        folder = self._below(name).parent
        folder.mkdir(parents=True, exist_ok=True)
        return folder / temp_name

    def publish(self, staged: Path, name: str) -> None:
        """Rename or upload the staged file as the object `name`; the staged file is deleted."""
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
        """Write the object `name` if there is none. Returns whether its content is `data` afterwards.

        If several processes do this at once, one wins: by a hard link or a conditional PUT. Without conditional PUT: check, write, read
        back.
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
        ):  # not names_found: the winner has deleted the staged file in sweep()
            return self.read(name) == data
        finally:
            staged.unlink(missing_ok=True)
        _fsync_directory(final.parent)
        return True

    def append(self, name: str, data: bytes) -> None:
        """Append to a local file, which is created if needed; for logs, whose last line may be incomplete after a crash."""
        path = self._inside(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as handle:
            handle.write(data)

    def sweep(self, name: str = "") -> int:
        """Delete temporary files that killed processes left directly below `name`. Returns how many."""
        if self._remote is not None:
            return 0
        leftovers = list(Path(self.root, name).glob(f"{TEMP_PREFIX}*"))
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)
        return len(leftovers)


def _make_once(staged: Path, final: Path, data: bytes) -> None:
    """Create `final` with the staged content, atomically if the file system has hard links. Raises FileExistsError."""
    try:
        os.link(staged, final)
    except FileExistsError:
        if os.stat(staged).st_nlink != 2:  # two links: NFS made the link, lost the answer and tried again
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


T = TypeVar("T")
R = TypeVar("R")


def in_order(function: Callable[[T], R], items: Iterable[T], width: int) -> Iterator[R]:
    """Like `map(function, items)`, with up to `width` calls at once in threads and at most `width` results kept.

    `Executor.map` would submit all items at once. If a call raises, the exception is raised at that call's place in the order and
    calls that have not begun are cancelled.

    Args:
        width: number of threads; 1 calls the function in this thread.
    """
    if width <= 1:
        yield from map(function, items)
        return
    pool, waiting = ThreadPoolExecutor(width, "in order"), deque[Future[R]]()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= width:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
