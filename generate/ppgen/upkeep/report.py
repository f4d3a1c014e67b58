"""What a verification found."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field


@dataclass
class Report:
    """What is wrong.

    Attributes:
        shards: shard -> what is wrong with it.
        general: what is wrong with the directory as a whole.
        conditions_bad: whether that is the condition table.
        checked: samples looked at.
        skipped: why samples were not looked at -> how many; nothing is wrong with them.
    """

    shards: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    general: list[str] = field(default_factory=list)
    conditions_bad: bool = False
    checked: int = 0
    skipped: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def ok(self) -> bool:
        return not self.shards and not self.general
