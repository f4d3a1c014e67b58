"""What the samples of shard directories were conditioned on, for a method that predicts it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ppcore.errors import UserError
from ppcore.shards import CONDITIONS, MANIFEST, ShardSet
from ppcore.storage import read_table
from pptrain.data.shard_pool import ShardPool


@dataclass(frozen=True)
class ConditionTable:
    """The conditions of N samples over K source classes, each distinct one stored once.

    Attributes:
        class_names: of the K source classes.
        soft: float32 (M, K), rows sum to 1; one-hot rows are hard labels.
        row: int64 (N,), the row of every sample, in the order of the whole set.
        targets: name of a target image -> row of its soft label.
    """

    class_names: tuple[str, ...]
    soft: Tensor
    row: Tensor
    targets: dict[str, int]

    def to(self, device: torch.device) -> ConditionTable:
        """The same table on a device."""
        return ConditionTable(self.class_names, self.soft.to(device), self.row.to(device), self.targets)

    def of_samples(self, index: Tensor) -> Tensor:
        """int64 (B,) positions in the set -> float32 (B, K)."""
        return self.soft[self.row[index]]

    def of_targets(self, names: list[str]) -> Tensor | None:
        """The soft labels of target images, float32 (B, K); None when one of them conditioned no sample."""
        rows = [self.targets.get(name, -1) for name in names]
        return None if min(rows, default=-1) < 0 else self.soft[rows]


def open_conditions(pool: ShardPool) -> ConditionTable:
    """The conditions of every sample of a pool, from the directories' manifests and condition tables.

    Raises:
        UserError: of different sources, missing or damaged.
    """
    names = pool.sets[0].class_names
    soft: list[Tensor] = []
    rows: list[Tensor] = []
    targets: dict[str, int] = {}
    base = 0
    for opened in pool.sets:
        if opened.class_names != names:
            raise UserError(
                f"{opened.store} and {pool.sets[0].store} come from different sources; their classes must be the same"
            )
        try:
            labels, row, images = _read(opened)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"the conditions of {opened.store} cannot be read ({error}); run ppgen verify on it"
            ) from error
        soft.append(labels)
        rows.append(row + base)
        targets |= {image: base + i for i, image in enumerate(images)}
        base += len(labels)
    return ConditionTable(tuple(names), torch.cat(soft), torch.cat(rows), targets)


def _read(opened: ShardSet) -> tuple[Tensor, Tensor, list[str]]:
    """(distinct conditions (M, K), row of every sample (N,), target images of the rows or none)."""
    with opened.store.open(MANIFEST) as handle:
        manifest = read_table(handle, opened.samples, columns=["class", "target_id"])
    label = manifest.column("class")
    if label.null_count == 0:
        hard = torch.from_numpy(label.to_numpy().astype(np.int64))
        return F.one_hot(torch.arange(opened.num_classes)).float(), hard, []
    with opened.store.open(CONDITIONS) as handle:
        table = read_table(handle, None, row_bytes=8 * opened.num_classes)
    images = table.column("target_id").to_pylist()
    place = {image: i for i, image in enumerate(images)}
    if len(place) < len(images):
        raise ValueError("a target image has two soft labels")
    row = torch.tensor([place[image] for image in manifest.column("target_id").to_pylist()])
    soft = torch.from_numpy(np.stack(table.column("soft").to_numpy()).astype(np.float32))
    return soft, row, images
