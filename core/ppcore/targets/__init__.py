"""The target, a small labelled task: read from wherever its images are."""

from ppcore.targets.table import ImageSet, Target, few_shot, fit, load_target, stack

__all__ = ["ImageSet", "Target", "few_shot", "fit", "load_target", "stack"]
