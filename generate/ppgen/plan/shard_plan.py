"""What finalize, resume and verify need to know of a plan, be it one request's or that of a merged directory."""

from __future__ import annotations

from typing import Any, Protocol


class ShardPlan(Protocol):
    """See :class:`ppgen.plan.plan.Plan` and :class:`ppgen.plan.merged_plan.MergedPlan`."""

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
