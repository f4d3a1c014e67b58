"""From a request to the frozen plan: what every sample index means, PCS conditions."""

from ppgen.plan.conditions import Conditions, condition_rows
from ppgen.plan.differences import plan_differences
from ppgen.plan.document import decode_any_plan, decode_plan, encode_plan
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
    "decode_any_plan",
    "decode_plan",
    "encode_plan",
    "plan_differences",
    "plan_pseudo",
    "plan_synth",
    "require_positive",
]
