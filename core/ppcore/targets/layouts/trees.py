"""Class folders below a folder of a known name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ppcore.targets.folders import read_flat_classes
from ppcore.targets.target import Splits


@dataclass(frozen=True)
class Tree:
    """`<folder>/<class>/<image>`, see :class:`ppcore.targets.target.Layout`; nobody made a split.

    Attributes:
        leave_out: folders that are no classes.
    """

    folder: str
    leave_out: Sequence[str] = ()

    def __call__(self, root: Path) -> Splits | None:
        """The class folders, without a test split."""
        inner = root / self.folder
        return read_flat_classes(inner, self.leave_out) if inner.is_dir() else None
