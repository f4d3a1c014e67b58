"""What one look at the machine found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "limited", "broken"]


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        check: what was looked at, one word.
        facts: what was found.
        state: `limited` when something optional will not work, `broken` when the ordinary commands will not.
        lost: what will not work and why; empty where nothing is lost.
        remedy: what to do about it.
    """

    check: str
    facts: str
    state: State = "ok"
    lost: str = ""
    remedy: str = ""
