"""The target, a small labelled task: read from wherever its images are."""

from ppcore.targets.files import read_files
from ppcore.targets.load import load_target, may_be_named, target_name
from ppcore.targets.pixels import fit, stack
from ppcore.targets.splits import few_shot
from ppcore.targets.target import FileReader, ImageSet, Target

__all__ = [
    "FileReader",
    "ImageSet",
    "Target",
    "few_shot",
    "fit",
    "load_target",
    "may_be_named",
    "read_files",
    "stack",
    "target_name",
]
