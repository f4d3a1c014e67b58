"""One stored sample -> what a training loop is given: an image, its target and, if wanted, its weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from ppcore.errors import UserError
from ppcore.shards import RawSample, ShardRef, ShardSet, meta_path
from ppcore.storage import read_table
from pptrain.data import decode_into

Transform = Callable[[Image.Image], Any]
Weight = Callable[[Mapping[str, Any]], float]
"""A row of the shard's table (`class`, `entropy`, `confidence`, ...) -> the sample's weight."""


@dataclass(frozen=True)
class Reader:
    """What is made of a stored sample; picklable where `transform` and `weight` are.

    Attributes:
        soft: the target is the condition, float32 (K,) over all source classes, and not a dense label.
        transform: takes a Pillow image; without one images are uint8 (C, H, W).
        weight: samples are (image, target, weight).
    """

    shards: ShardSet
    soft: bool
    transform: Transform | None
    weight: Weight | None

    def read(self, sample: RawSample, shard: ShardRef, row: Mapping[str, Any] | None) -> tuple[Any, ...]:
        """(image, target) or (image, target, weight). Raises UserError for a damaged sample."""
        where = self.shards.store.path(shard.path)
        image = self._image(sample, where)
        target = self._soft(sample, where) if self.soft else self._dense(sample, where)
        return (image, target) if self.weight is None else (image, target, self._weigh(row))

    def rows(self, shard: ShardRef) -> list[dict[str, Any]] | None:
        """The rows of a shard's table, where somebody wants weights of them. Raises UserError."""
        if self.weight is None:
            return None
        try:
            data = self.shards.store.read(meta_path(shard.index))
            rows: list[dict[str, Any]] = read_table(data, None).to_pylist()
        except (FileNotFoundError, ValueError) as error:
            raise UserError(
                f"{self.shards.store.path(meta_path(shard.index))} cannot be read ({error}); run ppgen verify on the directory"
            ) from error
        if len(rows) != shard.samples:
            raise UserError(
                f"{self.shards.store.path(meta_path(shard.index))} has {len(rows)} rows for {shard.samples} samples; run ppgen "
                f"verify on the directory"
            )
        return rows

    def _image(self, sample: RawSample, where: str) -> Any:
        side, channels = self.shards.resolution, self.shards.channels
        pixels = np.empty((side, side, channels), dtype=np.uint8)
        decode_into(sample, pixels, where)
        if self.transform is None:
            return torch.from_numpy(pixels).permute(2, 0, 1)
        return self.transform(Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels))

    def _dense(self, sample: RawSample, where: str) -> int:
        try:
            return self.shards.classes.index(-1 if sample.label is None else sample.label)
        except ValueError:
            raise UserError(
                f"sample {sample.key} of {where} has class {sample.label}, which its plan does not hold; run ppgen verify on the "
                f"directory"
            ) from None

    def _soft(self, sample: RawSample, where: str) -> torch.Tensor:
        classes = self.shards.num_classes
        if sample.soft is not None and len(sample.soft) == classes:
            return torch.from_numpy(sample.soft)
        if sample.soft is None and sample.label is not None and sample.label < classes:
            return torch.nn.functional.one_hot(torch.tensor(sample.label), classes).float()
        raise UserError(
            f"sample {sample.key} of {where} has no soft label; run ppgen verify on the directory"
        )

    def _weigh(self, row: Mapping[str, Any] | None) -> float:
        assert self.weight is not None
        assert row is not None
        return float(self.weight(row))


def by_confidence(row: Mapping[str, Any]) -> float:
    """The source classifier's probability of the sample's condition. Raises UserError where the directory has none."""
    if row["confidence"] is None:
        raise UserError(
            "the samples have no confidence; make the directory with ppgen synth --score, or give a function as weight"
        )
    return float(row["confidence"])


def shard_urls(directory: str) -> list[str]:
    """The tars of a finished shard directory, as WebDataset, timm (`wds/...`) and Hugging Face `datasets` take them.

    Raises:
        UserError: no shard directory, unfinished or damaged.
    """
    return ShardSet.open(directory).urls


def timm_split(directory: str) -> str:
    """What timm takes as the split of a dataset `wds/NAME` whose root is the directory: its tars and the number of its samples.

    Raises:
        UserError: as :func:`shard_urls`.
    """
    shards = ShardSet.open(directory)
    first, last = (shards.shards[place].path for place in (0, -1))
    folder, _, name = first.rpartition("/")
    start, stop = name.removesuffix(".tar"), last.rpartition("/")[2].removesuffix(".tar")
    return f"{folder}/{{{start}..{stop}}}.tar|{shards.samples}"
