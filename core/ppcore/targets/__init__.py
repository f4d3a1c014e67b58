"""The target, a small labelled task: reads its images from folders, archives, tables or the hub."""

from ppcore.targets.files import read_files
from ppcore.targets.load import (
    Inspection,
    describe_target,
    find_problems,
    inspect_target,
    load_target,
    may_be_named,
    target_name,
)
from ppcore.targets.named import NAMED, NamedTarget, TargetState, list_targets, target_state
from ppcore.targets.pixels import decode_ahead, stack, usual_channels, usual_side
from ppcore.targets.reading import ReadOptions, with_options
from ppcore.targets.target import ImageSet, Layout, Target, few_shot
from ppcore.targets.unlabelled import open_images
