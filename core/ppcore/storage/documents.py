"""Bounded reading of files that anybody may have written: JSON and parquet checked for size before they are read, then against a type."""

from __future__ import annotations

import functools
import io
import os
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
_ROW_BYTES = 64 << 10  # a sample's description, soft label apart
_FIXED_BYTES = 1 << 20


class OutsideError(UserError):
    """A symbolic link that leads out of the directory it lies in."""


def require_inside(root: Path, name: str) -> None:
    """Refuse to look at what is not in the directory, though its name is: whoever made it may have put a link there.

    Args:
        root: a directory; it may be a link itself, which whoever named it knows.
        name: relative to it.

    Raises:
        OutsideError: `name`, or a folder on the way to it, is a link to somewhere else.
    """
    steps = [Path(root, *Path(name).parts[: n + 1]) for n in range(len(Path(name).parts))]
    link = next((step for step in steps if step.is_symlink()), None)
    if link is None:
        return
    home, end = Path(os.path.realpath(root)), Path(os.path.realpath(steps[-1]))
    # The hub's cache keeps a snapshot's files beside it; the links are the hub library's own.
    blobs = home.parent.parent / "blobs" if home.parent.name == "snapshots" else home
    if not end.is_relative_to(home) and end.parent != blobs:
        raise OutsideError(f"{link} is a symbolic link out of {root}; refused: put the file itself there")


def require_file(path: Path, limit: int | None = None) -> None:
    """Refuse what must not be read.

    Raises:
        FileNotFoundError, IsADirectoryError: there is no such file.
        UserError: a device, a pipe or the like, which might never end, or larger than `limit` (a sparse file costs its maker nothing).
    """
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(f"{path} is a directory")
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{path} is no regular file; refused")
    if limit is not None and found.st_size > limit:
        raise UserError(f"{path} has {found.st_size} bytes; at most {limit} are accepted; refused")


def open_table(source: bytes | IO[bytes] | str) -> pq.ParquetFile:
    """A parquet file, to be read with `use_threads=False`.

    Arrow's thread pools are kept out: a process that ends shortly after their use aborts in about one of three cases when
    torch is loaded, too (pyarrow 26.0.1 with torch 2.15.0), and its exit status is lost.

    Args:
        source: the file's bytes, a seekable file or a local path.

    Raises:
        pyarrow.ArrowException, OSError: no parquet file.
    """
    import pyarrow.parquet as pq  # heavy: JSON is read without it

    return pq.ParquetFile(io.BytesIO(source) if isinstance(source, bytes) else source, pre_buffer=False)


def read_table(
    source: bytes | IO[bytes] | str | pq.ParquetFile,
    rows: int | None,
    *,
    row_bytes: int = 0,
    columns: list[str] | None = None,
    group: int | None = None,
) -> pa.Table:
    """Parquet rows, their size checked by what the footer declares before anything is decompressed.

    Args:
        source: see :func:`open_table`; or a file it opened.
        rows: how many there must be; None leaves that open.
        row_bytes: that a row may take beyond what descriptions of samples take.
        group: one row group; None is the whole file.

    Raises:
        ValueError: no parquet file, another number of rows, or far more bytes than such rows have.
    """
    import pyarrow as pa  # heavy: JSON is read without it
    import pyarrow.parquet as pq  # heavy: likewise

    try:
        file = source if isinstance(source, pq.ParquetFile) else open_table(source)
        wanted = range(file.metadata.num_row_groups) if group is None else [group]
        facts = [file.metadata.row_group(number) for number in wanted]
        count, declared = sum(f.num_rows for f in facts), sum(f.total_byte_size for f in facts)
        if rows is not None and count != rows:
            raise ValueError(f"{count} rows where {rows} are planned")
        if not 0 <= declared <= _FIXED_BYTES + count * (_ROW_BYTES + row_bytes):
            raise ValueError(f"{declared} bytes in {count} rows")
        return file.read_row_groups(list(wanted), columns=columns, use_threads=False)
    except (pa.ArrowException, OSError, IndexError) as error:
        raise ValueError(f"no readable parquet file ({' '.join(str(error).split())})") from error


T = TypeVar("T")
_LONGEST = 500  # characters of a complaint


class MismatchError(ValueError):
    """A value that is not of the wanted type; the text is one line, the attributes are the first of pydantic's complaints.

    Attributes:
        place: names and positions that lead to the value.
        problem: pydantic's word for what is wrong, such as `float_parsing`.
        value: what was found there.
        bounds: what was expected, where that is a number or a choice: `{"ge": 0}`.
    """

    def __init__(self, error: ValidationError) -> None:
        super().__init__(first_problem(error))
        found = error.errors(include_url=False)[0]
        self.place, self.problem, self.value = found["loc"], found["type"], found["input"]
        self.bounds: dict[str, Any] = found.get("ctx", {})


def decode(kind: type[T], data: bytes | str) -> T:
    """JSON text as `kind`: a (frozen) dataclass, a pydantic model or any type pydantic knows; nothing is coerced.

    Fields a dataclass does not have are refused where it sets `__pydantic_config__ = ConfigDict(extra="forbid")`.

    Raises:
        ValueError: too large, not JSON, nested too deeply, or not of that type; the text is one line.
    """
    if len(data) > MAX_JSON_BYTES:
        raise ValueError(f"{len(data)} bytes of JSON, at most {MAX_JSON_BYTES} are accepted")
    try:
        return _adapter(kind).validate_json(data, strict=True)  # type: ignore[arg-type]
    except ValidationError as error:
        raise ValueError(first_problem(error)) from None


def read_json(path: Path, kind: type[T]) -> T:
    """A local JSON file as `kind`, see :func:`decode`.

    Raises:
        OSError: it cannot be read.
        ValueError: its content is not of that type.
        UserError: no regular file, or too large.
    """
    require_file(path, MAX_JSON_BYTES)
    return decode(kind, path.read_bytes())


def convert(kind: type[T], value: Any) -> T:
    """A plain value, from YAML say, as `kind`; numbers may stand in texts.

    Raises:
        MismatchError: not of that type.
    """
    try:
        return _adapter(kind).validate_python(value)  # type: ignore[arg-type]
    except ValidationError as error:
        raise MismatchError(error) from None


def first_problem(error: ValidationError) -> str:
    """`segments.0.samples: input should be greater than 0`, of the first of pydantic's complaints."""
    found = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in found["loc"])
    message = found["msg"][:1].lower() + found["msg"][1:]
    text = f"{place}: {message}" if place else message
    # A hostile document's keys are in it: nothing of them may reach the terminal's control characters.
    return "".join(c if c.isprintable() else "?" for c in text[:_LONGEST])


@functools.cache
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(kind)
