"""From a request to the frozen plan: what every sample index means, PCS conditions, and the bounds of a sane plan."""

from ppgen.plan.conditions import Conditions, condition_rows
from ppgen.plan.encoding import LOSSLESS_UP_TO
from ppgen.plan.merged import Merged, Part
from ppgen.plan.plan import Plan, Rows, Segment, canonical_json
from ppgen.plan.protocol import Planned
from ppgen.plan.request import PseudoRequest, Settings, plan_pseudo, plan_synth, require_positive

__all__ = [
    "LOSSLESS_UP_TO",
    "Conditions",
    "Merged",
    "Part",
    "Plan",
    "Planned",
    "PseudoRequest",
    "Rows",
    "Segment",
    "Settings",
    "canonical_json",
    "condition_rows",
    "plan_pseudo",
    "plan_synth",
    "require_positive",
]
