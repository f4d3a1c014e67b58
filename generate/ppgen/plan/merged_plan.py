"""The plan of a merged directory: the plans of its parts, one after the other; and what all plans answer alike."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from ppgen.plan.plan import Plan, canonical_json


class ShardPlan(Protocol):
    """What finalize, resume and verify need to know of a plan: a :class:`ppgen.plan.plan.Plan` or a :class:`MergedPlan`."""

    @property
    def kind(self) -> str: ...
    @property
    def source(self) -> dict[str, Any]: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def samples(self) -> int: ...
    @property
    def num_shards(self) -> int: ...

    def locate(self, shard: int) -> tuple[Any, int, int]:
        """See :meth:`ppgen.plan.plan.Plan.locate`; the last entry is the number of samples."""
        ...

    def shard_fingerprint(self, shard: int) -> str:
        """What a shard's commit record must state."""
        ...


@dataclass(frozen=True)
class Part:
    """One merged directory.

    Attributes:
        plan: its plan.
        shard, sample: numbers of its first shard and of its first sample in the merged directory.
        condition: row of its first condition in the merged table.
    """

    plan: Plan
    shard: int
    sample: int
    condition: int


class MergedPlan:
    """The plan of a merged directory; the same questions are put to it as to a :class:`ppgen.plan.plan.Plan`.

    Args:
        plans: of the parts, in order.
    """

    def __init__(self, plans: Sequence[Plan]) -> None:
        self.parts: list[Part] = []
        shard = sample = condition = 0
        for plan in plans:
            self.parts.append(Part(plan, shard, sample, condition))
            shard, sample = shard + plan.num_shards, sample + plan.samples
            condition += int(plan.target["images"]) if plan.target is not None else 0
        self.num_shards, self.samples = shard, sample
        self.kind = plans[0].kind
        self.source = {
            **plans[0].source,
            **{key: self._joined(key) for key in ("name", "licence", "revision")},
        }

    def _joined(self, key: str) -> str:
        """What the parts' sources say, each word once."""
        return "+".join(dict.fromkeys(str(part.plan.source.get(key, "")) for part in self.parts))

    def part_of(self, shard: int) -> tuple[Part, int]:
        """The part a merged shard comes from, and its number there."""
        part = next(part for part in reversed(self.parts) if part.shard <= shard)
        return part, shard - part.shard

    def locate(self, shard: int) -> tuple[Any, int, int]:
        """See :meth:`ppgen.plan.plan.Plan.locate`."""
        part, own = self.part_of(shard)
        return part.plan.locate(own)

    def shard_fingerprint(self, shard: int) -> str:
        """sha256 (hex) of what decides a merged shard's bytes: the original shard's fingerprint and the new numbers."""
        part, own = self.part_of(shard)
        facts = [part.plan.shard_fingerprint(own), part.shard, part.sample]
        return hashlib.sha256(canonical_json(facts)).hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of the parts' fingerprints, in order."""
        return hashlib.sha256(canonical_json([part.plan.fingerprint for part in self.parts])).hexdigest()
