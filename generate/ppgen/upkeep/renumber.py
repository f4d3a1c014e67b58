"""New numbers for the samples of a shard, without touching anything else in its tar and its parquet rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ppcore.shards import ROW_SCHEMA, TAR_BLOCK, padding, parse_header, rename_header, sample_key
from ppcore.storage import read_table
from ppgen.shards import to_parquet


def renumber_tar(tar: bytes, shift: int) -> bytes:
    """The tar with every key, a zero-padded number, moved on by `shift`.

    Keys keep their width, so offsets, sizes and padding stay what they were; undone by the opposite shift.

    Raises:
        ValueError: not a tar as :mod:`ppgen.shards.pack` writes it.
    """
    data = bytearray(tar)
    position = 0
    while position + TAR_BLOCK <= len(data):
        header = bytes(data[position : position + TAR_BLOCK])
        if not any(header):
            break
        member = parse_header(header)
        key, _, extension = member.name.partition(".")
        name = f"{sample_key(int(key) + shift)}.{extension}"
        data[position : position + TAR_BLOCK] = rename_header(header, name)
        position += TAR_BLOCK + member.size + padding(member.size)
    return bytes(data)


def renumber_rows(meta: bytes, rows: int, samples: int, shards: int) -> bytes:
    """The parquet rows with sample and shard numbers moved on by so many.

    Args:
        rows: how many there must be.

    Raises:
        ValueError: no parquet file, or other rows and columns than planned.
    """
    table = read_table(meta, rows)
    if table.schema != ROW_SCHEMA:
        raise ValueError("other columns than ppgen writes")
    index = table.column("index").to_numpy() + samples
    moved = {
        "key": pa.array([sample_key(int(i)) for i in index]),
        "index": pa.array(index),
        "shard": pa.array(table.column("shard").to_numpy() + np.int32(shards)),
    }
    for name, column in moved.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), column)
    return to_parquet(table)
