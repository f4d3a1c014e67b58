"""What is done to a finished directory: verify, repair, extend, merge."""

from ppgen.upkeep.extend import grow, replace_plan
from ppgen.upkeep.merging import merge
from ppgen.upkeep.repairing import repair
from ppgen.upkeep.verification import verify
from ppgen.upkeep.verify_merged import verify_merged

__all__ = ["grow", "merge", "repair", "replace_plan", "verify", "verify_merged"]
