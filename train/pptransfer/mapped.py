"""Any sample at any time: a map-style dataset that reads one sample's bytes and no more."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from pptransfer.samples import Reader

_TABLES = 64  # shards whose rows are kept


class MappedShards(Dataset[tuple[Any, ...]]):
    """The samples of a shard directory by position: for samplers, for directories of this machine or a fast file system.

    Attributes:
        classes: names of the dense labels, or of all source classes where targets are soft.
    """

    def __init__(self, reader: Reader, classes: list[str]) -> None:
        self._reader, self.classes = reader, classes
        self._ends = np.cumsum([shard.samples for shard in reader.shards.shards])
        self._rows: OrderedDict[int, Any] = OrderedDict()

    def __len__(self) -> int:
        return self._reader.shards.samples

    def __getitem__(self, position: int) -> tuple[Any, ...]:
        """(image, target) or (image, target, weight). Raises IndexError, and UserError for a damaged sample."""
        place = position + len(self) if position < 0 else position
        if not 0 <= place < len(self):
            raise IndexError(f"sample {position} of {len(self)}")
        number = int(np.searchsorted(self._ends, place, side="right"))
        shard = self._reader.shards.shards[number]
        row = place - int(self._ends[number]) + shard.samples
        rows = self._table(number)
        return self._reader.read(self._reader.shards.fetch(place), shard, None if rows is None else rows[row])

    def _table(self, number: int) -> list[dict[str, Any]] | None:
        if number not in self._rows:
            self._rows[number] = self._reader.rows(self._reader.shards.shards[number])
            if len(self._rows) > _TABLES:
                self._rows.popitem(last=False)
        rows: list[dict[str, Any]] | None = self._rows[number]
        return rows
