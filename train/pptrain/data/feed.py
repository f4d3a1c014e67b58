"""What every source of batches is: a batch as stored, a process's share of it, and an endless repeatable sequence of them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from ppcore.errors import UserError


class RawBatch(NamedTuple):
    """One batch as it was stored, before any view is made of it.

    Attributes:
        images: uint8 (B, C, H, W).
        labels: int64 (B,), -1 where there are none.
        ids: int64 (B,), positions in the whole set.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor


@dataclass(frozen=True)
class BatchShare:
    """Which part of every global batch this process makes.

    Attributes:
        batch: images of a global batch, over all ranks.
        rank, world_size: this process and how many there are.
        groups: parts a global batch is cut into, a multiple of `world_size`; the order of a stream depends on it.
    """

    batch: int
    rank: int = 0
    world_size: int = 1
    groups: int = 1

    def __post_init__(self) -> None:
        if self.groups % self.world_size or self.batch % self.groups:
            raise UserError(
                f"a batch of {self.batch} images in {self.groups} groups cannot be shared by {self.world_size} processes; the "
                f"batch must be a multiple of data.groups, and that of the processes"
            )

    @property
    def local(self) -> int:
        """Images of a batch in this process."""
        return self.batch // self.world_size

    @property
    def group(self) -> int:
        """Images of a batch in a group."""
        return self.batch // self.groups

    @property
    def local_groups(self) -> range:
        each = self.groups // self.world_size
        return range(self.rank * each, (self.rank + 1) * each)


class Feed(Protocol):
    """An endless, exactly repeatable sequence of batches."""

    samples: int
    share: BatchShare

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of an image as it is stored."""

    def batches(self, start: int) -> Generator[RawBatch, None, None]:
        """Batches number `start`, `start + 1`, ..."""

    def key(self, index: int) -> str:
        """Name of the image numbered `index`."""
