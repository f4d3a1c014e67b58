"""Shard directories opened for training: their samples and their dense labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ppcore.errors import UserError
from ppcore.shards import RawSample, ShardRef, ShardSet
from ppcore.storage import convert

_NO_LABEL = -1


@dataclass(frozen=True)
class PlannedTarget:
    """A pseudo directory's target: its name, and the seed that chose its labelled images; None where all were taken."""

    name: str | None = None
    label_seed: int | None = None


@dataclass(frozen=True)
class ShardPool:
    """One or more shard directories of a kind, read as one set.

    Attributes:
        sets: the directories.
        refs: (position in `sets`, shard) of every shard.
        classes: source classes that occur in any of them; dense labels are positions in this list.
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
        """What the first directory's plan says of the target that its samples are conditioned on.

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
        """One pool a directory, with the dense classes of all."""
        return [
            ShardPool((opened,), tuple((0, ref) for ref in opened.shards), self.classes)
            for opened in self.sets
        ]

    def read(self, shard: int) -> list[RawSample]:
        """All samples of shard number `shard`, in order."""
        owner, ref = self.refs[shard]
        return list(self.sets[owner].read(ref))

    def label(self, sample: RawSample, shard: int) -> int:
        """Dense label of a sample; -1 when the directory is unlabelled."""
        if not self.classes:
            return _NO_LABEL  # a pseudo sample's class, where it has one, is the source's and no target
        if sample.label is None:
            raise UserError(
                f"sample {sample.key} of {self.where(shard)} has no label; run ppgen verify on the directory"
            )
        position = self._dense.get(sample.label)
        if position is None:
            raise UserError(
                f"sample {sample.key} of {self.where(shard)} has class {sample.label}, which its plan does not hold; "
                f"run ppgen verify on the directory"
            )
        return position

    def where(self, shard: int) -> str:
        """Path of a shard, for messages."""
        owner, ref = self.refs[shard]
        return self.sets[owner].store.path(ref.path)

    def key(self, index: int) -> str:
        """`shard path:key` of the sample numbered `index` in the whole set."""
        ends = np.cumsum(self.sizes)
        shard = int(np.searchsorted(ends, index, side="right"))
        row = index - (int(ends[shard - 1]) if shard else 0)
        return f"{self.where(shard)}:{self.read(shard)[row].key}"


def open_shard_pool(roots: Sequence[str], kind: str | None) -> ShardPool:
    """Open shard directories of one kind; None takes both kinds and hides their labels.

    Raises:
        UserError: no or unfinished directory, wrong kind, empty, or directories that do not fit together.
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
