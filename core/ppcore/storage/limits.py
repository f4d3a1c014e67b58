"""Reading what strangers wrote: bounds that our own files never meet and a hostile one cannot pass."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import IO, TYPE_CHECKING

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
