"""Bounded reading of files that anybody may have written: JSON and parquet checked for size before they are read, then against a type."""

from __future__ import annotations

import functools
import io
import os
import re
import stat
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ppcore.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


MAX_JSON_BYTES = 64 << 20
MAX_OBJECT_BYTES = 4 << 30
# A byte outside UTF-8 of the name of a file, as Python writes it; behind another escape it is a part of one character.
_LONE = re.compile(rb"(?<!\\ud[89ab][0-9a-f]{2})\\udc([89a-f][0-9a-f])")
_ROW_BYTES = 64 << 10  # most bytes of a row that describes a sample, without its soft label
_FIXED_BYTES = 1 << 20  # most bytes of a table besides its rows


class OutsideError(UserError):
    """A symbolic link that leads out of its directory."""


def require_inside(root: Path, name: str) -> None:
    """Refuse symbolic links that lead out of a directory, because the directory may come from anybody.

    Args:
        root: a directory; it may be a link itself, because the user named it.
        name: a path relative to `root`.

    Raises:
        OutsideError: `name`, or a folder on the way to it, is a link out of `root`.
    """
    steps = [Path(root, *Path(name).parts[: n + 1]) for n in range(len(Path(name).parts))]
    link = next((step for step in steps if step.is_symlink()), None)
    if link is None:
        return
    home, end = Path(os.path.realpath(root)), Path(os.path.realpath(steps[-1]))
    # The hub library keeps the files of a snapshot in `blobs` beside `snapshots`, and links to them.
    blobs = home.parent.parent / "blobs" if home.parent.name == "snapshots" else home
    if not end.is_relative_to(home) and end.parent != blobs:
        raise OutsideError(
            f"{link} is a symbolic link out of {root} and is not followed; replace the link by the file"
        )


def require_file(path: Path, limit: int | None = None) -> None:
    """Refuse files that must not be read.

    Args:
        limit: most bytes; a sparse file of any size costs nothing to make.

    Raises:
        FileNotFoundError, IsADirectoryError: there is no such file.
        UserError: the file is a device or a pipe, which might never end, or larger than `limit`.
    """
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(f"{path} is a directory")
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path} is not a regular file; it is not read")
    if limit is not None and status.st_size > limit:
        raise UserError(
            f"{path} has {status.st_size} bytes, more than the {limit} that are accepted; it is not read"
        )


def open_table(source: bytes | IO[bytes] | str) -> pq.ParquetFile:
    """Open a parquet file. Read it with `use_threads=False`.

    Arrow's thread pools are not used: with torch loaded, a process that ends shortly after their use aborts in about one of three
    cases and loses its exit status (pyarrow 26.0.1, torch 2.15.0).

    Args:
        source: the file's bytes, a seekable file or a local path.

    Raises:
        pyarrow.ArrowException, OSError: not a parquet file.
    """
    import pyarrow as pa  # slow to import, not needed for JSON
    import pyarrow.parquet as pq  # slow to import, not needed for JSON

    if isinstance(source, str):
        source = pa.OSFile(os.fsencode(source))  # a name outside UTF-8 is refused as text
    return pq.ParquetFile(io.BytesIO(source) if isinstance(source, bytes) else source, pre_buffer=False)


def read_table(
    source: bytes | IO[bytes] | str | pq.ParquetFile,
    rows: int | None,
    *,
    row_bytes: int = 0,
    columns: list[str] | None = None,
    group: int | None = None,
) -> pa.Table:
    """The rows of a parquet file. The sizes that the footer declares are checked before anything is decompressed.

    Args:
        source: see :func:`open_table`, or a file that it opened.
        rows: the expected number of rows; None accepts any.
        row_bytes: bytes that a row may have in addition to the description of a sample (a soft label).
        columns: columns to read; None reads all.
        group: the row group to read; None reads all.

    Raises:
        ValueError: not a parquet file, another number of rows, or far more bytes than such rows have.
    """
    import pyarrow as pa  # slow to import, not needed for JSON
    import pyarrow.parquet as pq  # slow to import

    try:
        file = source if isinstance(source, pq.ParquetFile) else open_table(source)
        wanted = range(file.metadata.num_row_groups) if group is None else [group]
        facts = [file.metadata.row_group(number) for number in wanted]
        count, declared = sum(f.num_rows for f in facts), sum(f.total_byte_size for f in facts)
        if rows is not None and count != rows:
            raise ValueError(f"it has {count} rows, expected {rows}")
        if not 0 <= declared <= _FIXED_BYTES + count * (_ROW_BYTES + row_bytes):
            raise ValueError(f"it declares {declared} bytes for {count} rows")
        return file.read_row_groups(list(wanted), columns=columns, use_threads=False)
    except (pa.ArrowException, OSError, IndexError) as error:
        raise ValueError(f"not a readable parquet file ({' '.join(str(error).split())})") from error


T = TypeVar("T")
_LONGEST = 500  # characters of an error text


class MismatchError(ValueError):
    """A value does not have the expected type. The text is one line; the attributes describe pydantic's first error.

    Attributes:
        place: field names and positions that lead to the value.
        problem: pydantic's error type, such as `float_parsing`.
        value: the wrong value.
        bounds: the expected range or choices, such as `{"ge": 0}`.
    """

    def __init__(self, error: ValidationError) -> None:
        super().__init__(first_problem(error))
        first = error.errors(include_url=False)[0]
        self.place, self.problem, self.value = first["loc"], first["type"], first["input"]
        self.bounds: dict[str, Any] = first.get("ctx", {})


def decode(kind: type[T], data: bytes | str) -> T:
    """Parse JSON as `kind`: a (frozen) dataclass, a pydantic model or any type that pydantic knows. Values are not converted.

    A dataclass with `__pydantic_config__ = ConfigDict(extra="forbid")` refuses unknown fields.

    Raises:
        ValueError: too large, not JSON, nested too deeply, or not of that type; the text is one line.
    """
    if len(data) > MAX_JSON_BYTES:
        raise ValueError(f"{len(data)} bytes of JSON, at most {MAX_JSON_BYTES} are accepted")
    if isinstance(data, str):
        data = data.encode(errors="backslashreplace")
    data = _LONE.sub(rb"\\\\x\1", data)  # pydantic refuses the document; see ppcore.console.printable_name
    try:
        return _adapter(kind).validate_json(data, strict=True)  # type: ignore[arg-type]
    except ValidationError as error:
        raise ValueError(first_problem(error)) from None


def read_json(path: Path, kind: type[T]) -> T:
    """Read a local JSON file as `kind` (see :func:`decode`).

    Raises:
        OSError: the file cannot be read.
        ValueError: the content does not have that type.
        UserError: not a regular file, or too large.
    """
    require_file(path, MAX_JSON_BYTES)
    return decode(kind, path.read_bytes())


def convert(kind: type[T], value: Any) -> T:
    """Convert a plain value, for example from YAML, to `kind`. Numbers in strings are accepted.

    Raises:
        MismatchError: the value does not have that type.
    """
    try:
        return _adapter(kind).validate_python(value)  # type: ignore[arg-type]
    except ValidationError as error:
        raise MismatchError(error) from None


def first_problem(error: ValidationError) -> str:
    """pydantic's first error in one line: `segments.0.samples: input should be greater than 0`."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"][:1].lower() + first["msg"][1:]
    text = f"{place}: {message}" if place else message
    # The text contains keys of the document, which may hold control characters for the terminal.
    return "".join(c if c.isprintable() else "?" for c in text[:_LONGEST])


@functools.cache
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(kind)
