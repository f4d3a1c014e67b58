"""Targets known by name: one table of what they are, and where their images are found."""

from ppcore.targets.named.obtain import TargetState, list_targets, read_named
from ppcore.targets.named.table import NAMED, NamedTarget

__all__ = ["NAMED", "NamedTarget", "TargetState", "list_targets", "read_named"]
