"""What is done to a finished directory: verify, repair, extend, merge."""

from ppgen.upkeep.extend import grow_plan, replace_plan
from ppgen.upkeep.merge import merge_directories
from ppgen.upkeep.regenerate import regenerate_samples
from ppgen.upkeep.repair import requeue_shards
from ppgen.upkeep.report import Report
from ppgen.upkeep.verify import verify_directory

__all__ = [
    "Report",
    "grow_plan",
    "merge_directories",
    "regenerate_samples",
    "replace_plan",
    "requeue_shards",
    "verify_directory",
]
