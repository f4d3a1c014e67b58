"""What no type can say of a plan: that its numbers fit each other. A plan.json may come from anywhere, with a fingerprint that fits."""

from __future__ import annotations

from collections.abc import Iterator

from ppgen.plan.plan import MAX_SAMPLES, Plan, Segment

MAX_SHARDS = 10**7


def validate_plan(plan: Plan) -> None:
    """Raise ValueError for the first thing in a plan that ppgen cannot have written."""
    problem = next(_problems(plan), None)
    if problem is not None:
        raise ValueError(problem)


def _problems(plan: Plan) -> Iterator[str]:
    if any(c >= plan.num_classes for c in plan.classes):
        yield f"classes outside 0 to {plan.num_classes - 1}"
    if len(set(plan.classes)) < len(plan.classes):
        yield "a class twice"
    start = shards = 0
    for segment in plan.segments:
        if segment.start != start:
            yield "segments that do not follow each other"
        yield from _share_problems(plan, segment)
        start += segment.samples
        shards += -(-segment.samples // plan.samples_per_shard)
    if not 1 <= start <= MAX_SAMPLES or shards > MAX_SHARDS:
        yield f"{start} samples in {shards} shards, at most {MAX_SAMPLES} in {MAX_SHARDS} are possible"


def _share_problems(plan: Plan, segment: Segment) -> Iterator[str]:
    """The classes' samples must add up to the segment's."""
    if plan.kind == "pseudo":
        if segment.per_class is not None:
            yield "samples a class in a plan of conditions"
        return
    shares = segment.per_class
    shares = shares if isinstance(shares, tuple) else (shares or 0,) * len(plan.classes)
    if len(shares) != len(plan.classes) or sum(shares) != segment.samples:
        yield "samples a class that do not add up"
