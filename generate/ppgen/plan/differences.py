"""Comparing the plan of a directory with a new request, to resume or refuse it."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from typing import Any

from ppgen.plan.plan import Plan


def plan_differences(stored: Plan, request: Plan) -> list[str]:
    """The differences between a stored plan and a new request, as `field old -> new`; empty if there are none.

    Where the source was loaded from may differ, because it changes no byte. Segments are compared by their sum, so that a directory
    that was extended to 2,600 a class is the same as one requested with 2,600 at once.
    """
    old = _flatten(_as_requested(stored))
    new = _flatten(_as_requested(request))
    return [
        f"{name} {_shorten(old.get(name))} -> {_shorten(new.get(name))}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def adopt_choices(stored: Plan, request: Plan, typed: Container[str]) -> Plan:
    """The request with the automatic choices of the stored plan. Another GPU or another version of ppgen may choose other values, and
    this must not prevent resuming.

    Args:
        typed: which of `batch_size` and `samples_per_shard` the user gave.
    """
    sizes = {n: getattr(stored, n) for n in ("batch_size", "samples_per_shard") if n not in typed}
    score = request.score
    if score is not None and stored.score is not None:
        number = {name: value for name, value in stored.score.items() if name == "dtype"}
        score = {**{name: value for name, value in score.items() if name != "dtype"}, **number}
    return replace(request, score=score, **sizes)


def _as_requested(plan: Plan) -> dict[str, Any]:
    """The plan with total numbers in place of segments."""
    content = plan.content()
    del content["segments"]
    if plan.kind == "synth":
        content["per_class"] = plan.per_class
    else:
        content["count"] = plan.samples
    return content


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat.update(_flatten(inner, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def _shorten(value: Any) -> str:
    if isinstance(value, list):
        return f"[{len(value)}: {', '.join(map(str, value[:4]))}{', ...' if len(value) > 4 else ''}]"
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
