"""Reading what strangers wrote: bounds that our own files never meet and a hostile one cannot pass."""

from __future__ import annotations

import io
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppcore.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

MAX_JSON_BYTES = 64 << 20
MAX_OBJECT_BYTES = 4 << 30
_ROW_BYTES = 64 << 10  # a sample's description, soft label apart
_FIXED_BYTES = 1 << 20


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


def parse_json(data: bytes) -> Any:
    """json.loads whose every failure is a ValueError, depth and size included."""
    if len(data) > MAX_JSON_BYTES:
        raise ValueError(f"{len(data)} bytes of JSON, at most {MAX_JSON_BYTES} are accepted")
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None


def read_table(
    source: bytes | Any, rows: int | None, *, row_bytes: int = 0, columns: list[str] | None = None
) -> pa.Table:
    """A parquet file, its size checked by what its footer declares before anything is decompressed.

    Args:
        source: the file's bytes, or a seekable file.
        rows: how many it must have; None leaves that open.
        row_bytes: that a row may take beyond what descriptions of samples take.

    Raises:
        ValueError: no parquet file, another number of rows, or far more bytes than such rows have.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(source) if isinstance(source, bytes) else source)
        count = file.metadata.num_rows
        if rows is not None and count != rows:
            raise ValueError(f"{count} rows where {rows} are planned")
        groups = range(file.metadata.num_row_groups)
        declared = sum(file.metadata.row_group(group).total_byte_size for group in groups)
        if not 0 <= declared <= _FIXED_BYTES + count * (_ROW_BYTES + row_bytes):
            raise ValueError(f"{declared} bytes in {count} rows")
        return file.read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"no readable parquet file ({' '.join(str(error).split())})") from error
