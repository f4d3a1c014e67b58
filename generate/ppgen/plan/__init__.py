"""From a request to the frozen plan: what every sample index means, PCS conditions."""

from ppgen.plan.conditions import Conditions, condition_rows, one_hot
from ppgen.plan.differences import plan_differences
from ppgen.plan.document import decode_any_plan, decode_plan, encode_plan
from ppgen.plan.encoding import LOSSLESS_UP_TO
from ppgen.plan.merged_plan import MergedPlan, Part
from ppgen.plan.plan import Plan, Rows, Segment, canonical_json
from ppgen.plan.request import PseudoRequest, Settings, build_pseudo_plan, build_synth_plan, require_positive
from ppgen.plan.shard_plan import ShardPlan

__all__ = [
    "LOSSLESS_UP_TO",
    "Conditions",
    "MergedPlan",
    "Part",
    "Plan",
    "PseudoRequest",
    "Rows",
    "Segment",
    "Settings",
    "ShardPlan",
    "build_pseudo_plan",
    "build_synth_plan",
    "canonical_json",
    "condition_rows",
    "decode_any_plan",
    "decode_plan",
    "encode_plan",
    "one_hot",
    "plan_differences",
    "require_positive",
]
