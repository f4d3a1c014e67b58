"""Stored samples as (image, target) or (image, target, weight)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from ppcore.errors import UserError
from ppcore.shards import MANIFEST, ROW_SCHEMA, RawSample, ShardRef, ShardSet
from ppcore.storage import read_table
from pptrain.data import decode_into

if TYPE_CHECKING:
    import pyarrow as pa

Transform = Callable[[Image.Image], Any]
Weight = Callable[[Mapping[str, Any]], float]
"""A row of manifest.parquet (`class`, `entropy`, `confidence`, ...) -> the sample's weight."""


@dataclass(frozen=True)
class Reader:
    """Makes (image, target) or (image, target, weight) of stored samples; can be pickled if `transform` and `weight` can."""

    shards: ShardSet
    soft: bool
    transform: Transform | None
    weight: Weight | None

    @property
    def classes(self) -> list[str]:
        names = self.shards.class_names
        return names if self.soft else [names[c] for c in self.shards.classes]

    @cached_property
    def _columns(self) -> _Columns:
        return _Columns(self.shards)

    @cached_property
    def _labels(self) -> dict[int, int]:
        return {c: label for label, c in enumerate(self.shards.classes)}

    def decode(self, sample: RawSample, shard: ShardRef, position: int) -> tuple[Any, ...]:
        """(image, target) or (image, target, weight) of the sample at a position. Raises UserError for a damaged sample."""
        where, side, channels = (
            self.shards.store.path(shard.path),
            self.shards.resolution,
            self.shards.channels,
        )
        pixels = np.empty((side, side, channels), dtype=np.uint8)
        decode_into(sample, pixels, where)
        image: Any = torch.from_numpy(pixels).permute(2, 0, 1)
        if self.transform is not None:
            image = self.transform(Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels))
        target = self._soft(sample, where) if self.soft else self._dense(sample, where)
        if self.weight is None:
            return image, target
        return image, target, float(self.weight(_Row(self._columns, position)))

    def _dense(self, sample: RawSample, where: str) -> int:
        if sample.label not in self._labels:
            raise UserError(
                f"sample {sample.key} of {where} has class {sample.label}, which is not in its plan; run ppgen verify on the "
                f"directory"
            )
        return self._labels[sample.label]

    def _soft(self, sample: RawSample, where: str) -> torch.Tensor:
        classes = self.shards.num_classes
        if sample.soft is not None and len(sample.soft) == classes:
            return torch.from_numpy(sample.soft)
        if sample.soft is None and sample.label is not None and sample.label < classes:
            return torch.nn.functional.one_hot(torch.tensor(sample.label), classes).float()
        raise UserError(
            f"sample {sample.key} of {where} has no soft label; run ppgen verify on the directory"
        )


class _Columns(dict[str, "pa.ChunkedArray"]):
    """Columns of manifest.parquet, one entry a sample; each is read when it is asked for. Raises UserError for a damaged file."""

    def __init__(self, shards: ShardSet) -> None:
        self._shards = shards

    def __missing__(self, name: str) -> pa.ChunkedArray:
        store = self._shards.store
        try:
            with store.open(MANIFEST) as handle:
                column = read_table(handle, self._shards.samples, columns=[name]).column(name)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{store.path(MANIFEST)} cannot be read ({error}); run ppgen verify on the directory"
            ) from error
        self[name] = column
        return column


@dataclass(frozen=True)
class _Row(Mapping[str, Any]):
    """The row of a sample in manifest.parquet, as a weight function gets it."""

    columns: _Columns
    position: int

    def __getitem__(self, name: str) -> Any:
        return self.columns[name][self.position].as_py()

    def __iter__(self) -> Iterator[str]:
        return iter(ROW_SCHEMA.names)

    def __len__(self) -> int:
        return len(ROW_SCHEMA.names)


def confidence(row: Mapping[str, Any]) -> float:
    """The source classifier's probability of the sample's condition. Raises UserError if it was not stored."""
    if row["confidence"] is None:
        raise UserError(
            "the samples have no confidence; make the directory with ppgen synth --score, or give a function as weight"
        )
    return float(row["confidence"])
