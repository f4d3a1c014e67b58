"""The files of a folder, a zip or a tar, by name: what the readers see is the same, whatever holds the files."""

from __future__ import annotations

import io
import lzma
import os
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import IO, overload

from ppcore.errors import UserError, first_line
from ppcore.targets.target import IMAGE_ENDINGS, Encoded

ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tbz2", ".txz")
_IGNORED = ("__MACOSX", "lost+found")
_HARMLESS = {"readme.md", "readme.txt", "license", "license.txt", "thumbs.db", "desktop.ini"}
_END = bytes(tarfile.BLOCKSIZE)
_MOST_BYTES = 1 << 34  # of the members that are read from an archive


def suffix_of(name: str) -> str:
    """The last suffix in lower case without its dot, "" if there is none."""
    base, dot, suffix = name.rpartition(".")
    return suffix.lower() if dot and base and "/" not in suffix else ""


def is_image_name(name: str) -> bool:
    """Whether a file is an image, by its name."""
    return name.lower().endswith(IMAGE_ENDINGS)


def is_archive(name: str) -> bool:
    """Whether a file is an archive, by its name."""
    return name.lower().endswith(ARCHIVES)


class Tree(ABC):
    """Files by their names relative to `place`, with `/` between folders. Hidden files and folders are left out.

    Attributes:
        place: the folder or archive.
        folders: folder ("" is `place` itself) -> names of the images in it, sorted.
        others: all other files, sorted.
        bare: folders without an image in them or below them.
    """

    def __init__(
        self, place: Path, folders: dict[str, list[str]], others: list[str], seen: Iterable[str] = ()
    ) -> None:
        self.place = place
        full = {
            "/".join(parts[:end])
            for f in folders
            for parts in [f.split("/")]
            for end in range(len(parts) + 1)
        }
        self.bare = sorted(set(seen) - full)
        self.folders = {folder: sorted(folders[folder]) for folder in sorted(folders, key=_by_parts)}
        self.others = sorted(others)

    def everything(self) -> Tree:
        """The same tree with all its files, if it was limited to some."""
        return self

    @property
    def count(self) -> int:
        """The number of images."""
        return sum(map(len, self.folders.values()))

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of all images."""
        return frozenset(join(folder, name) for folder, names in self.folders.items() for name in names)

    @abstractmethod
    def sources(self, names: Sequence[str]) -> Sequence[Encoded]:
        """The images with these names."""

    def has(self, name: str) -> bool:
        """Whether there is a file with this name."""
        return name in self.names

    @abstractmethod
    def open(self, name: str) -> IO[bytes]:
        """A file, opened to be read."""

    def where(self, name: str) -> str:
        """A file's name in messages."""
        return str(self.place / name)

    def skipped(self, used: Iterable[str] = ()) -> str:
        """The other files by suffix, as `3 .heic, 1 .xml`, without those in `used`; "" if there are none."""
        kinds = Counter(
            f".{suffix_of(name)}" if suffix_of(name) else "without suffix"
            for name in set(self.others).difference(used)
            if _base(name).lower() not in _HARMLESS
        )
        return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))


class FolderTree(Tree):
    """The files below a folder; `files` limits it to these files below the folder.

    Raises:
        UserError: a folder cannot be listed.
    """

    def __init__(self, root: Path, files: Iterable[str] | None = None) -> None:
        self._limited = files is not None
        folders: dict[str, list[str]] = {}
        others: list[str] = []
        seen: list[str] = []
        for folder, names in _walk(str(root)) if files is None else _group(files):
            seen.append(folder)
            images = list(filter(is_image_name, names))
            if images:
                folders[folder] = images
            if len(images) < len(names):
                others += [join(folder, name) for name in names if not is_image_name(name)]
        super().__init__(root, folders, others, seen)

    def everything(self) -> Tree:
        """The folder without a limit."""
        return FolderTree(self.place) if self._limited else self

    def sources(self, names: Sequence[str]) -> Sequence[Encoded]:
        """The files of the images."""
        return _Paths(str(self.place), names)

    def has(self, name: str) -> bool:
        """Whether there is such a file inside the folder."""
        # os.path.isfile is False for a name that is too long
        return ".." not in name.split("/") and not name.startswith("/") and os.path.isfile(self.place / name)

    def open(self, name: str) -> IO[bytes]:
        """Open a file. Raises UserError."""
        try:
            return (self.place / name).open("rb")
        except OSError as error:
            raise UserError(f"{self.where(name)} cannot be read ({error.strerror}); restore it") from error


class MemberTree(Tree):
    """The files of an archive, kept encoded in memory."""

    def __init__(self, place: Path, members: dict[str, bytes]) -> None:
        self._members = members
        folders: dict[str, list[str]] = {}
        for name in filter(is_image_name, members):
            folder, _, base = name.rpartition("/")
            folders.setdefault(folder, []).append(base)
        super().__init__(place, folders, [name for name in members if not is_image_name(name)])

    def sources(self, names: Sequence[str]) -> Sequence[Encoded]:
        """The bytes of the images."""
        return [self._members[name] for name in names]

    def open(self, name: str) -> IO[bytes]:
        """A file in memory."""
        return io.BytesIO(self._members[name])

    def where(self, name: str) -> str:
        """The archive and the member."""
        return f"{self.place}: {name}"


class _Paths(Sequence[Encoded]):
    """Files of a folder; their paths are made when they are asked for, which saves 2 microseconds an image."""

    def __init__(self, root: str, names: Sequence[str]) -> None:
        self._root, self._names = root, names

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> Encoded: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Encoded]: ...
    def __getitem__(self, index: int | slice) -> Encoded | Sequence[Encoded]:
        if isinstance(index, slice):
            return _Paths(self._root, self._names[index])
        return Path(self._root, self._names[index])


def join(folder: str, name: str) -> str:
    """The path of a file in a folder; "" is the top."""
    return f"{folder}/{name}" if folder else name


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _by_parts(folder: str) -> list[str]:
    return folder.split("/")


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in _IGNORED


def _walk(root: str) -> Iterator[tuple[str, list[str]]]:
    """(folder, names of its files) for every folder below `root`. Links are followed, but no folder is entered twice on one way."""
    waiting: list[tuple[str, frozenset[str]]] = [("", frozenset([os.path.realpath(root)]))]
    while waiting:
        folder, above = waiting.pop()
        names = []
        try:
            with os.scandir(os.path.join(root, folder)) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_file():
                        names.append(entry.name)
                    elif entry.is_dir() and entry.name not in _IGNORED:
                        real = os.path.realpath(entry.path) if entry.is_symlink() else ""
                        if real not in above:
                            waiting.append((join(folder, entry.name), above | {real} if real else above))
        except OSError as error:
            raise UserError(
                f"{os.path.join(root, folder)} cannot be listed ({error.strerror}); change its permissions or remove it"
            ) from error
        yield folder, names


def _group(files: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    folders: dict[str, list[str]] = {}
    for file in files:
        folder, _, base = file.rpartition("/")
        folders.setdefault(folder, []).append(base)
    yield from folders.items()


def open_archive(file: Path) -> MemberTree:
    """The members of a zip or tar file, in memory.

    Raises:
        UserError: it is damaged, cut off, encrypted or larger than 16 GiB in all.
    """
    members: dict[str, bytes] = {}
    total = 0
    try:
        for name, size, read in _zip_members(file) if suffix_of(file.name) == "zip" else _tar_members(file):
            parts = [part for part in PurePosixPath(name).parts if part != "/"]
            if ".." in parts:
                raise UserError(
                    f"{file} has the member {name!r}, which lies outside; unpack it and give the folder"
                )
            total += size
            if total > _MOST_BYTES:
                raise UserError(
                    f"{file} holds more than {_MOST_BYTES >> 30} GiB; unpack it and give the folder"
                )
            if parts and not any(map(_hidden, parts)):
                members["/".join(parts)] = read()
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        RuntimeError,  # an encrypted zip
        NotImplementedError,
        OSError,
    ) as error:
        raise UserError(
            f"{file} is not a whole archive ({first_line(error)}); {len(members)} files could be read. Copy or download it again"
        ) from error
    return MemberTree(file, members)


_Member = tuple[str, int, Callable[[], bytes]]  # name, bytes, function that reads it


def _zip_members(file: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                yield member.filename.replace("\\", "/"), member.file_size, partial(archive.read, member)


def _tar_members(file: Path) -> Iterator[_Member]:
    """The files of a tar, which must end with a block of zeros: without it the tar was cut off between two files."""
    with tarfile.open(file) as archive:
        for member in archive:
            if member.isfile():
                yield member.name, member.size, partial(_read_member, archive, member)
        reader = archive.fileobj
        assert reader is not None
        reader.seek(archive.offset)
        if reader.read(tarfile.BLOCKSIZE) != _END:
            raise EOFError("the mark at its end is missing")


def _read_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    handle = archive.extractfile(member)
    data = handle.read() if handle is not None else b""
    if len(data) < member.size:
        raise EOFError(f"it ends in {member.name}")
    return data
