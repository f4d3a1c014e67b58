"""plan.json: writing a plan, and reading one that anybody may have written."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from ppcore.errors import UserError
from ppcore.images import MAX_SIDE
from ppcore.shards import FORMAT, VERSION
from ppcore.storage import decode
from ppgen.options import ImageFormat, Mode
from ppgen.plan.plan import MAX_SAMPLES, Plan, Segment
from ppgen.sources import Load

MAX_SHARDS = 10**7
_EXACTLY, _AT_LEAST = ConfigDict(extra="forbid"), ConfigDict(extra="ignore")
Name = Annotated[str, Field(max_length=255, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
_OfAShard = Annotated[int, Field(ge=1, le=10**7)]


@dataclass(frozen=True)
class _Header:
    """The fields that are checked first. Everything else may differ in another version of the format."""

    format: str
    version: Any
    redraw: Any = None


@dataclass(frozen=True)
class _Source:
    __pydantic_config__ = _AT_LEAST

    name: Name
    class_names: Annotated[list[str], Field(min_length=1)]
    licence: str = ""
    revision: str = ""


@dataclass(frozen=True)
class _Encoding:
    __pydantic_config__ = _EXACTLY

    format: ImageFormat
    quality: Annotated[int, Field(ge=1, le=100)] | None = None
    subsampling: str | None = None
    level: Annotated[int, Field(ge=0, le=9)] | None = None


@dataclass(frozen=True)
class _Target:
    __pydantic_config__ = _AT_LEAST

    name: Name
    images: Annotated[int, Field(ge=1, le=MAX_SAMPLES)]


@dataclass(frozen=True)
class _Condition:
    __pydantic_config__ = _AT_LEAST

    mode: Mode
    sha256: str


@dataclass(frozen=True, kw_only=True)
class _Document:
    """The fields of plan.json. Types with `_AT_LEAST` may have more fields, which are part of the plan, too."""

    __pydantic_config__ = _EXACTLY

    kind: Literal["synth", "pseudo"]
    source: _Source
    seed: Annotated[int, Field(ge=-(2**63), le=2**64)]
    batch_size: _OfAShard
    samples_per_shard: _OfAShard
    encoding: _Encoding
    resolution: Annotated[int, Field(ge=1, le=MAX_SIDE)]
    channels: Literal[1, 3]
    segments: tuple[Segment, ...]
    score: dict[str, Any] | None = None
    redraw: None = None
    load: Load
    format: str
    version: int
    samples: int
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class _SynthDocument(_Document):
    classes: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    target: None = None
    condition: None = None


@dataclass(frozen=True, kw_only=True)
class _PseudoDocument(_Document):
    classes: Annotated[tuple[int, ...], Field(max_length=0)]
    target: _Target
    condition: _Condition


_DOCUMENTS: dict[Any, type[_SynthDocument | _PseudoDocument]] = {
    "synth": _SynthDocument,
    "pseudo": _PseudoDocument,
}


def encode_plan(plan: Plan) -> bytes:
    """Content of plan.json: the plan and its fingerprint."""
    content = {**plan.content(), "load": plan.load, "samples": plan.samples, "fingerprint": plan.fingerprint}
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def decode_plan(data: bytes, where: str) -> Plan:
    """Read a plan.json.

    Args:
        where: path of the file, for error messages.

    Raises:
        UserError: not a plan, of another version, or changed by hand (the fingerprint does not match).
    """
    try:
        content = decode(dict[str, Any], data)
        header = decode(_Header, json.dumps(content))
        if header.format != FORMAT:
            raise ValueError(f"format {header.format!r}")
        if header.version != VERSION:
            raise UserError(
                f"{where} is a plan of version {header.version!r}, this ppgen reads version {VERSION}; use the ppgen that wrote it or "
                f"give another --out"
            )
        if header.redraw is not None:
            raise UserError(
                f"{where} asks to draw samples of low confidence again (--drop-below), which this ppgen no longer does; give another --out"
            )
        kind = _DOCUMENTS.get(str(content.get("kind")))
        if kind is None:
            raise ValueError(f"kind {content.get('kind')!r}")
        document = decode(kind, json.dumps(content))
        given = {name: value for name, value in content.items() if name not in ("samples", "fingerprint")}
        plan = Plan(**{**given, "classes": document.classes, "segments": document.segments})
        _validate(plan)
    except ValueError as error:
        raise UserError(f"{where} is not a plan of ppgen ({error}); choose another --out") from error
    if plan.fingerprint != document.fingerprint:
        raise UserError(
            f"{where} was changed after it was written (its fingerprint does not match); restore it"
        )
    return plan


def _validate(plan: Plan) -> None:
    """Raise ValueError if the numbers of a plan contradict each other. Anybody can write a plan.json with a matching fingerprint."""
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
    """Check that the samples of the classes add up to those of the segment."""
    if plan.kind == "pseudo":
        if segment.per_class is not None:
            yield "samples a class in a plan of conditions"
        return
    shares = segment.per_class
    shares = shares if isinstance(shares, tuple) else (shares or 0,) * len(plan.classes)
    if len(shares) != len(plan.classes) or sum(shares) != segment.samples:
        yield "samples a class that do not add up"


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
