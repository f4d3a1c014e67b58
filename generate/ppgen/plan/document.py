"""plan.json: a plan as text, and text that may come from anybody back into a plan."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from ppcore.errors import UserError
from ppcore.images import MAX_SIDE
from ppcore.shards import FORMAT, READABLE, VERSION
from ppcore.storage import decode
from ppgen.plan.conditions import Mode
from ppgen.plan.encoding import ImageFormat
from ppgen.plan.merged_plan import MergedPlan
from ppgen.plan.plan import MAX_SAMPLES, Plan, Segment
from ppgen.plan.validation import validate_plan
from ppgen.sources import Load

_EXACTLY, _AT_LEAST = ConfigDict(extra="forbid"), ConfigDict(extra="ignore")
Name = Annotated[str, Field(max_length=255, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
_OfAShard = Annotated[int, Field(ge=1, le=10**7)]


@dataclass(frozen=True)
class _Header:
    """What is looked at first: all else may differ in another version, or in the plan of a merged directory."""

    format: str
    version: Any
    fingerprint: str
    merged: list[dict[str, Any]] = field(default_factory=list)


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


@dataclass(frozen=True)
class _Redraw:
    __pydantic_config__ = _EXACTLY

    below: Annotated[float, Field(gt=0, lt=1)]
    draws: Annotated[int, Field(ge=1, le=10**4)]


@dataclass(frozen=True, kw_only=True)
class _Document:
    """What plan.json may hold. Fields beyond those of a type with `_AT_LEAST` are part of the plan, too."""

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
    redraw: _Redraw | None = None
    load: Load
    format: str
    version: Literal[1, 2]
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


def encode_plan(plan: Plan | MergedPlan) -> bytes:
    """Content of plan.json: the plan and its fingerprint."""
    content = _merged_content(plan) if isinstance(plan, MergedPlan) else _plan_content(plan)
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _plan_content(plan: Plan) -> dict[str, Any]:
    return {
        **plan.content(),
        "load": plan.load,
        "samples": plan.samples,
        "fingerprint": plan.fingerprint,
    }


def _merged_content(merged: MergedPlan) -> dict[str, Any]:
    """What readers of shard directories look at, then the whole plans of the parts."""
    plans = [part.plan for part in merged.parts]
    targets = [plan.target for plan in plans if plan.target is not None]
    names = dict.fromkeys(str(target["name"]) for target in targets)
    alike = all(target == targets[0] for target in targets)
    return {
        "format": FORMAT,
        "version": VERSION,
        "kind": merged.kind,
        "source": merged.source,
        "classes": sorted({c for plan in plans for c in plan.classes}),
        "resolution": plans[0].resolution,
        "channels": plans[0].channels,
        "samples": merged.samples,
        "target": (targets[0] if alike else {"name": "+".join(names)}) if targets else None,
        "load": plans[0].load,
        "merged": [_plan_content(plan) for plan in plans],
        "fingerprint": merged.fingerprint,
    }


def decode_plan(data: bytes, where: str) -> Plan:
    """Read the plan.json of a directory that was not merged.

    Args:
        where: names the file in messages.

    Raises:
        UserError: not a plan, of another version, merged, or changed by hand (the fingerprint does not match).
    """
    plan = decode_any_plan(data, where)
    if isinstance(plan, MergedPlan):
        raise UserError(
            f"{where} was merged from {len(plan.parts)} directories; resume or extend those and merge them again"
        )
    return plan


def decode_any_plan(data: bytes, where: str) -> Plan | MergedPlan:
    """Read plan.json, be the directory merged or not.

    Raises:
        UserError: see :func:`decode_plan`.
    """
    try:
        content = decode(dict[str, Any], data)
        header = decode(_Header, json.dumps(content))
        if header.format != FORMAT:
            raise ValueError(f"format {header.format!r}")
        if header.version not in READABLE:
            raise UserError(
                f"{where} is a plan of version {header.version!r}, this ppgen reads versions {' and '.join(map(str, READABLE))}; "
                f"use the ppgen that made it or another --out"
            )
        if not header.merged:
            return _decode_content(content, where)
        merged = MergedPlan([_decode_content(part, where) for part in content["merged"]])
    except ValueError as error:
        raise UserError(f"{where} is not a plan of ppgen ({error}); choose another --out") from error
    _require_fingerprint(merged, header.fingerprint, where)
    return merged


def _decode_content(content: dict[str, Any], where: str) -> Plan:
    """Raises ValueError where it cannot be a plan, UserError where the fingerprint is another's."""
    kind = _DOCUMENTS.get(str(content.get("kind")))
    if kind is None:
        raise ValueError(f"kind {content.get('kind')!r}")
    document = decode(kind, json.dumps(content))
    stated = {"samples", "fingerprint"}
    given = {name: value for name, value in content.items() if name not in stated}
    plan = Plan(**{**given, "classes": document.classes, "segments": document.segments})
    validate_plan(plan)
    _require_fingerprint(plan, document.fingerprint, where)
    return plan


def _require_fingerprint(plan: Plan | MergedPlan, stated: str, where: str) -> None:
    if plan.fingerprint != stated:
        raise UserError(
            f"{where} was changed after it was written (its fingerprint does not match); restore it"
        )
