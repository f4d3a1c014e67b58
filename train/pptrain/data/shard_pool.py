"""Shard directories opened for training: their samples, the dense labels and the conditions of the samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ppcore.errors import UserError
from ppcore.shards import CONDITIONS, MANIFEST, RawSample, ShardRef, ShardSet
from ppcore.storage import convert, read_table
from ppcore.targets.target import stem

_NO_LABEL = -1


@dataclass(frozen=True)
class PlannedTarget:
    """The target of a pseudo directory.

    Attributes:
        name: of the target.
        label_seed: seed that chose its labelled images; None if all were used.
    """

    name: str | None = None
    label_seed: int | None = None


@dataclass(frozen=True)
class ShardPool:
    """One or more shard directories of one kind, read as one set.

    Attributes:
        sets: the directories.
        refs: (position in `sets`, shard) of every shard.
        classes: source classes that occur in any directory. A dense label is a position in this tuple. Empty if labels are not
            used.
    """

    sets: tuple[ShardSet, ...]
    refs: tuple[tuple[int, ShardRef], ...]
    classes: tuple[int, ...]

    @cached_property
    def _dense(self) -> dict[int, int]:
        return {c: position for position, c in enumerate(self.classes)}

    @property
    def sizes(self) -> list[int]:
        return [ref.samples for _, ref in self.refs]

    @property
    def samples(self) -> int:
        return sum(self.sizes)

    @property
    def resolution(self) -> int:
        return self.sets[0].resolution

    @property
    def channels(self) -> int:
        return self.sets[0].channels

    @property
    def class_names(self) -> list[str]:
        """Names of the dense classes."""
        return [self.sets[0].class_names[c] for c in self.classes]

    @property
    def decoded_bytes(self) -> int:
        return self.samples * self.channels * self.resolution**2

    @cached_property
    def planned_target(self) -> PlannedTarget:
        """The target in the first directory's plan: the samples are conditioned on its images.

        Raises:
            UserError: the plan is damaged.
        """
        try:
            return convert(PlannedTarget, self.sets[0].plan.get("target") or {})
        except ValueError as error:
            raise UserError(
                f"{self.sets[0].store} has a damaged plan.json (target.{error}); run ppgen verify on it"
            ) from error

    @property
    def fingerprints(self) -> list[str]:
        return [opened.fingerprint for opened in self.sets]

    def split(self) -> list[ShardPool]:
        """One pool for each directory, with the dense classes of all directories."""
        return [
            ShardPool((opened,), tuple((0, ref) for ref in opened.shards), self.classes)
            for opened in self.sets
        ]

    def read(self, shard: int) -> list[RawSample]:
        """All samples of shard number `shard`, in order."""
        owner, ref = self.refs[shard]
        return list(self.sets[owner].read(ref))

    def label(self, sample: RawSample, shard: int) -> int:
        """Dense label of a sample; -1 if this pool has no labels.

        Raises:
            UserError: the sample has no class, or a class that is not in the plan.
        """
        if not self.classes:
            return _NO_LABEL  # the class of a pseudo sample is a source class, not a target class
        position = None if sample.label is None else self._dense.get(sample.label)
        if position is None:
            raise UserError(
                f"sample {sample.key} of {self.where(shard)} has class {sample.label}, which is not in its plan; run ppgen verify "
                f"on the directory"
            )
        return position

    def where(self, shard: int) -> str:
        """Path of a shard, for messages."""
        owner, ref = self.refs[shard]
        return self.sets[owner].store.path(ref.path)

    def key(self, index: int) -> str:
        """`shard path:key` of the sample at position `index` of the whole set."""
        ends = np.cumsum(self.sizes)
        shard = int(np.searchsorted(ends, index, side="right"))
        row = index - (int(ends[shard - 1]) if shard else 0)
        return f"{self.where(shard)}:{self.read(shard)[row].key}"


def open_shard_pool(roots: Sequence[str], kind: str | None) -> ShardPool:
    """Open shard directories.

    Args:
        kind: `synth` or `pseudo`; None takes both kinds and uses no labels.

    Raises:
        UserError: a directory is missing, unfinished, empty or of another kind, or the directories do not fit together.
    """
    sets = tuple(ShardSet.open(root, kind=kind) for root in roots)
    first = sets[0]
    for root, other in zip(roots, sets, strict=True):
        if other.samples == 0 or any(ref.samples == 0 for ref in other.shards):
            raise UserError(f"{root} holds an empty shard; run ppgen verify on it, then ppgen again")
        if (other.resolution, other.channels) != (first.resolution, first.channels):
            raise UserError(
                f"{root} has images of {other.resolution} pixels and {other.channels} channels, {roots[0]} of "
                f"{first.resolution} and {first.channels}; directories in one run must agree"
            )
        if kind == "synth" and other.class_names != first.class_names:
            raise UserError(
                f"{root} and {roots[0]} come from different sources; their classes must be the same"
            )
    classes = () if kind is None else tuple(sorted({c for opened in sets for c in opened.classes}))
    refs = tuple((owner, ref) for owner, opened in enumerate(sets) for ref in opened.shards)
    return ShardPool(sets, refs, classes)


@dataclass(frozen=True)
class ConditionTable:
    """The conditions of N samples over K source classes; every distinct condition is stored once.

    Attributes:
        class_names: names of the K source classes.
        soft: float32 (M, K), rows sum to 1. The row of a hard label is one-hot.
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
        """The soft labels of target images, float32 (B, K); None if an image conditioned no sample.

        Images are found by name. If the target was read from another container since, they are found by their names without folders
        and suffix, if these are unique.
        """
        rows = [self.targets.get(name, -1) for name in names]
        if min(rows, default=0) < 0:
            stems = {stem(name): row for name, row in self.targets.items()}
            unique = len(stems) == len(self.targets)
            rows = [stems.get(stem(name), -1) for name in names] if unique else rows
        return None if min(rows, default=-1) < 0 else self.soft[rows]


def open_conditions(pool: ShardPool) -> ConditionTable:
    """The conditions of every sample of a pool, from the manifests and condition tables of its directories.

    Raises:
        UserError: the directories come from different sources, or a table is missing or damaged.
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
            labels, row, images = _read_conditions(opened)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"the conditions of {opened.store} cannot be read ({error}); run ppgen verify on it"
            ) from error
        soft.append(labels)
        rows.append(row + base)
        targets |= {image: base + i for i, image in enumerate(images)}
        base += len(labels)
    return ConditionTable(tuple(names), torch.cat(soft), torch.cat(rows), targets)


def _read_conditions(opened: ShardSet) -> tuple[Tensor, Tensor, list[str]]:
    """(distinct conditions (M, K), row of every sample (N,), the target images whose soft labels are the first rows).

    The samples of `--condition draw` and `uniform` have a class; the soft labels of their target images are in the directory, too.
    """
    with opened.store.open(MANIFEST) as handle:
        manifest = read_table(handle, opened.samples, columns=["class", "target_id"])
    soft, images = torch.zeros(0, opened.num_classes), []
    if opened.kind == "pseudo":
        with opened.store.open(CONDITIONS) as handle:
            table = read_table(handle, None, row_bytes=8 * opened.num_classes)
        images = table.column("target_id").to_pylist()
        soft = torch.from_numpy(np.stack(table.column("soft").to_numpy()).astype(np.float32))
    label = manifest.column("class")
    if label.null_count == 0:
        hard = torch.from_numpy(label.to_numpy().astype(np.int64))
        return (
            torch.cat([soft, F.one_hot(torch.arange(opened.num_classes)).float()]),
            hard + len(soft),
            images,
        )
    place = {image: i for i, image in enumerate(images)}
    if len(place) < len(images):
        raise ValueError("a target image has two soft labels")
    return soft, torch.tensor([place[image] for image in manifest.column("target_id").to_pylist()]), images
