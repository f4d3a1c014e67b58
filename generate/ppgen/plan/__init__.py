"""From a request to the frozen plan: what every sample index means, PCS conditions, what it will cost, and plan.json."""

from ppgen.plan.build import build_pseudo_plan, build_synth_plan
from ppgen.plan.conditions import Conditions, condition_rows, one_hot
from ppgen.plan.differences import adopt_choices, plan_differences
from ppgen.plan.document import decode_any_plan, decode_plan, encode_plan
from ppgen.plan.encoding import LOSSLESS_UP_TO
from ppgen.plan.estimate import Estimate, Rate, expected_passes, format_bytes, guess_bytes
from ppgen.plan.merged_plan import MergedPlan, Part, ShardPlan
from ppgen.plan.plan import Plan, Rows, Segment, canonical_json
from ppgen.plan.request import PseudoRequest, Settings, SynthRequest, parse_classes

__all__ = [
    "LOSSLESS_UP_TO",
    "Conditions",
    "Estimate",
    "MergedPlan",
    "Part",
    "Plan",
    "PseudoRequest",
    "Rate",
    "Rows",
    "Segment",
    "Settings",
    "ShardPlan",
    "SynthRequest",
    "adopt_choices",
    "build_pseudo_plan",
    "build_synth_plan",
    "canonical_json",
    "condition_rows",
    "decode_any_plan",
    "decode_plan",
    "encode_plan",
    "expected_passes",
    "format_bytes",
    "guess_bytes",
    "one_hot",
    "parse_classes",
    "plan_differences",
]
