"""Is this a plan a person could have asked for? A plan.json may come from anywhere, with a fingerprint that fits its nonsense."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ppcore.images import MAX_SIDE
from ppcore.shards import KINDS
from ppgen.plan.encoding import FORMATS

if TYPE_CHECKING:
    from ppgen.plan.plan import Plan

MAX_SAMPLES = 10**9  # nine digits of a key
MAX_SHARDS = 10**7
_MAX_SHARD = 10**7  # samples of a shard


def nonsense(plan: Plan) -> str | None:
    """The first thing in a plan that cannot be, in words; None for a plan that ppgen may have written."""
    return next(_problems(plan), None)


def _problems(plan: Plan) -> Iterator[str]:
    if plan.kind not in KINDS:
        yield f"kind {plan.kind!r}"
    yield from _source_problems(plan.source)
    yield from (f"{name} {value!r}" for name, value in _numbers(plan))
    if not isinstance(plan.encoding, dict) or plan.encoding.get("format") not in FORMATS:
        yield f"encoding {plan.encoding!r}"
    if not _is_dictionary_of_plain_values(plan.encoding):
        yield "an encoding with odd settings"
    if not isinstance(plan.load, dict):
        yield "load"
    for name, value in (("score", plan.score), ("redraw", plan.redraw)):
        if value is not None and not isinstance(value, dict):
            yield f"{name} {value!r}"
    if plan.redraw is not None and not (
        _is_whole(plan.redraw.get("draws"), 1, 10**4) and _is_number(plan.redraw.get("below"))
    ):
        yield f"redraw {plan.redraw!r}"
    if plan.kind == "synth":
        yield from _class_problems(plan)
    else:
        yield from _condition_problems(plan)
    yield from _segment_problems(plan)


def _source_problems(source: Any) -> Iterator[str]:
    if not isinstance(source, dict):
        yield "a source that is no object"
        return
    names = source.get("class_names")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        yield "class_names that is no list of names"
    if not isinstance(source.get("name"), str):
        yield "a source without name"
    for field in ("licence", "revision"):
        if not isinstance(source.get(field, ""), str):
            yield f"a source with the {field} {source[field]!r}"


def _numbers(plan: Plan) -> Iterator[tuple[str, Any]]:
    """The numbers of a plan that are out of bounds."""
    bounds = {
        "seed": (-(2**63), 2**64),
        "batch_size": (1, _MAX_SHARD),
        "samples_per_shard": (1, _MAX_SHARD),
        "resolution": (1, MAX_SIDE),
        "channels": (1, 3),
    }
    for name, (low, high) in bounds.items():
        value = getattr(plan, name)
        if not _is_whole(value, low, high) or (name == "channels" and value == 2):
            yield name, value


def _class_problems(plan: Plan) -> Iterator[str]:
    K = len(plan.source["class_names"])
    if not plan.classes or not all(_is_whole(c, 0, K - 1) for c in plan.classes):
        yield f"classes outside 0 to {K - 1}"
    if len(set(map(repr, plan.classes))) < len(plan.classes):
        yield "a class twice"
    if plan.target is not None or plan.condition is not None:
        yield "a target in a plan of plain classes"


def _condition_problems(plan: Plan) -> Iterator[str]:
    from ppgen.plan.conditions import MODES  # which imports the plan

    if not isinstance(plan.target, dict) or not _is_whole(plan.target.get("images"), 1, MAX_SAMPLES):
        yield "a target without images"
    condition = plan.condition
    if not isinstance(condition, dict) or condition.get("mode") not in MODES:
        yield "no known mode of conditioning"
    elif not isinstance(condition.get("sha256"), str):
        yield "a condition without checksum"
    if plan.classes:
        yield "classes in a plan of conditions"


def _segment_problems(plan: Plan) -> Iterator[str]:
    start = shards = 0
    for segment in plan.segments:
        if segment.start != start or not _is_whole(segment.samples, 1, MAX_SAMPLES):
            yield "segments that do not follow each other"
            return
        yield from _share_problems(plan, segment.per_class, segment.samples)
        start += segment.samples
        shards += -(-segment.samples // plan.samples_per_shard)
    if not 1 <= start <= MAX_SAMPLES or shards > MAX_SHARDS:
        yield f"{start} samples in {shards} shards, at most {MAX_SAMPLES} in {MAX_SHARDS} are possible"


def _share_problems(plan: Plan, per_class: Any, samples: int) -> Iterator[str]:
    """The classes' samples must add up to the segment's."""
    if plan.kind != "synth":
        if per_class is not None:
            yield "samples a class in a plan of conditions"
        return
    shares = per_class if isinstance(per_class, tuple) else (per_class,) * len(plan.classes)
    if not all(_is_whole(share, 0, MAX_SAMPLES) for share in shares):
        yield "samples a class that are no numbers"
    elif len(shares) != len(plan.classes) or sum(shares) != samples:
        yield "samples a class that do not add up"


def _is_whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_dictionary_of_plain_values(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(v, str | int) for v in value.values())
