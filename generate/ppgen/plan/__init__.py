"""From the options of a command to the frozen plan: what every sample index means, PCS conditions, the cost, and plan.json."""

from ppgen.plan.build import PER_IMAGE, build_pseudo_plan, build_synth_plan, parse_classes
from ppgen.plan.conditions import Conditions, condition_rows, one_hot
from ppgen.plan.document import adopt_choices, decode_plan, encode_plan, plan_differences
from ppgen.plan.estimate import Estimate, Rate, format_bytes, guess_bytes
from ppgen.plan.plan import LOSSLESS_UP_TO, Plan, Rows, Segment, canonical_json
