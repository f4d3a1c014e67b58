"""From the words of a command to a plan: classes, counts, sizes, conditions. Everything is checked here, nothing is written."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppcore.errors import UserError
from ppcore.targets import few_shot, load_target
from ppgen.plan.conditions import MODES, Conditions, conditions_sha256, measure
from ppgen.plan.encoding import choose_encoding
from ppgen.plan.plan import Plan, Segment, canonical_json
from ppgen.sources import (
    SourceSpec,
    automatic_batch_size,
    describe_classifier,
    describe_source,
    open_classifier,
    source_kit,
)

if TYPE_CHECKING:
    from ppgen.sources import Generator

MAX_DRAWS = 10  # of a sample that `--drop-below` rejects
_MAX_SHARD = 1000  # samples; 1,300 shards for ImageNet's 1.3 million
_FEW_SHARDS = 16  # a small plan is still cut so that several workers share it


@dataclass(frozen=True)
class Settings:
    """What both kinds of plan have in common. None lets the plan's size decide.

    Attributes:
        score: store the source classifier's confidence in every sample.
        drop_below: draw samples below this confidence again (see :mod:`ppgen.shards.redraw`); implies `score`.
    """

    seed: int = 0
    batch_size: int | None = None
    samples_per_shard: int | None = None
    image_format: str = "auto"
    score: bool = False
    drop_below: float | None = None

    @property
    def scored(self) -> bool:
        return self.score or self.drop_below is not None


@dataclass(frozen=True)
class PseudoRequest:
    """Which target images condition the generator, how, and how often.

    Attributes:
        target: spec for :func:`ppcore.targets.load_target`.
        labels_per_class: keep so many training images a class (the ones pptrain keeps for the same seed); None keeps all.
        per_image, count: samples for every target image, or samples in all; exactly one is given.
        mode: `soft`, `draw` or `uniform`.
    """

    target: str
    labels_per_class: int | None = None
    label_seed: int = 0
    per_image: int | None = None
    count: int | None = None
    mode: str = "soft"
    temperature: float = 1.0
    top_k: int | None = None


def build_synth_plan(
    generator: Generator, spec: SourceSpec, classes: str | None, per_class: int, settings: Settings
) -> Plan:
    """A plan of `per_class` samples of every class.

    Raises:
        UserError: unknown classes, numbers that are not positive, unknown format.
    """
    require_positive("--per-class", per_class)
    kit = source_kit(spec.source)
    ids = parse_classes(classes, generator.class_names, kit.class_ids if kit is not None else ())
    segment = Segment(0, len(ids) * per_class, per_class)
    score = (
        describe_classifier(open_classifier(spec, generator.num_classes, generator.class_names))
        if settings.scored
        else None
    )
    return Plan(
        kind="synth",
        classes=ids,
        segments=(segment,),
        score=score,
        **_common(generator, spec, segment, settings),
    )


def build_pseudo_plan(
    generator: Generator, spec: SourceSpec, request: PseudoRequest, settings: Settings
) -> tuple[Plan, Conditions]:
    """A plan of samples conditioned on target images, and the condition table.

    Raises:
        UserError: unknown, empty or damaged target; wrong numbers; no classifier for the source.
    """
    _require_sound(request)
    target = load_target(request.target)
    images = target.train.select(few_shot(target.train.labels, request.labels_per_class, request.label_seed))
    classifier = open_classifier(spec, generator.num_classes, generator.class_names)
    device = next(classifier.buffers()).device
    conditions, pixels = measure(
        images,
        lambda batch: classifier(batch.to(device)),
        resolution=classifier.spec.resize or classifier.spec.resolution,
        channels=classifier.spec.channels,
        temperature=request.temperature,
        top_k=request.top_k,
    )
    samples = request.count if request.count is not None else (request.per_image or 1) * len(images)
    segment = Segment(0, samples)
    described = describe_classifier(classifier)
    plan = Plan(
        kind="pseudo",
        classes=(),
        segments=(segment,),
        target={
            "name": target.name,
            "images": len(images),
            "labels_per_class": request.labels_per_class,
            "label_seed": request.label_seed if request.labels_per_class is not None else None,
            "sha256": pixels,
        },
        condition={
            "mode": request.mode,
            "temperature": float(request.temperature),
            "top_k": request.top_k,
            "classifier": described,
            "sha256": conditions_sha256(conditions),
        },
        score=described if settings.scored else None,
        **_common(generator, spec, segment, settings, request.target),
    )
    return plan, conditions


def _common(
    generator: Generator, spec: SourceSpec, segment: Segment, settings: Settings, target: str | None = None
) -> dict[str, Any]:
    """The plan's fields that both kinds fill alike."""
    if settings.drop_below is not None and not 0 < settings.drop_below < 1:
        raise UserError(f"--drop-below is {settings.drop_below}; give a probability between 0 and 1")
    batch = settings.batch_size if settings.batch_size is not None else automatic_batch_size(generator)
    require_positive("--batch-size", batch)
    if settings.samples_per_shard is not None:
        require_positive("--samples-per-shard", settings.samples_per_shard)
        per_shard = settings.samples_per_shard
    else:
        batches = max(1, round(segment.samples / _FEW_SHARDS / batch))
        per_shard = max(batch, min(_MAX_SHARD, batches * batch))
    return {
        "source": json.loads(canonical_json(describe_source(generator, spec))),
        "load": spec.hint() if target is None else {**spec.hint(), "target": target},
        "seed": settings.seed,
        "batch_size": min(batch, per_shard, segment.samples),
        "samples_per_shard": per_shard,
        "encoding": choose_encoding(settings.image_format, generator.resolution),
        "resolution": generator.resolution,
        "channels": generator.channels,
        "redraw": None if settings.drop_below is None else {"below": settings.drop_below, "draws": MAX_DRAWS},
    }


def _require_sound(request: PseudoRequest) -> None:
    if (request.per_image is None) == (request.count is None):
        raise UserError(
            "give either --per-image or --count, samples for every target image or samples in all"
        )
    for name, value in (
        ("--per-image", request.per_image),
        ("--count", request.count),
        ("--labels-per-class", request.labels_per_class),
        ("--top-k", request.top_k),
        ("--temperature", request.temperature),
    ):
        if value is not None:
            require_positive(name, value)
    if request.mode not in MODES:
        raise UserError(f"unknown condition {request.mode!r}; choose {', '.join(MODES)}")


def require_positive(name: str, value: float) -> None:
    """Raise UserError unless `value` is a finite number above zero."""
    if not 0 < value < float("inf"):
        raise UserError(f"{name} is {value}; give a number above zero")


def parse_classes(text: str | None, names: Sequence[str], ids: Sequence[str] = ()) -> tuple[int, ...]:
    """Class numbers, in the order given.

    Args:
        text: `N` (the first N classes), a list with commas of numbers, ranges `a-b`, names and identifiers (WordNet ids), or
            `@file` with one of these a line; None means all.
        names, ids: of the source's K classes.

    Raises:
        UserError: unknown or repeated classes, or more than the source has.
    """
    if text is None:
        return tuple(range(len(names)))
    if re.fullmatch(r"\s*-?\d+\s*", text):
        require_positive("--classes", int(text))
        if int(text) > len(names):
            raise UserError(
                f"--classes asks for {int(text)} classes, the source has {len(names)}; give at most {len(names)}"
            )
        return tuple(range(int(text)))
    chosen: list[int] = []
    for token in _tokens(text, names):
        chosen.extend(_classes_of(token, names, ids))
    if not chosen:
        raise UserError(f"--classes {text!r} names no class; give a number, a list, ranges or @file")
    repeated = sorted({c for c in chosen if chosen.count(c) > 1}) if len(set(chosen)) < len(chosen) else []
    if repeated:
        raise UserError(
            f"--classes names class {repeated[0]} ({names[repeated[0]]}) more than once; name every class once"
        )
    return tuple(chosen)


def _tokens(text: str, names: Sequence[str]) -> list[str]:
    if not text.startswith("@"):
        return [text] if text in names else [part.strip() for part in text.split(",") if part.strip()]
    try:
        lines = Path(text[1:]).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read the class list {text[1:]!r} ({error}); give @file with one class a line"
        ) from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _classes_of(token: str, names: Sequence[str], ids: Sequence[str]) -> list[int]:
    span = re.fullmatch(r"(\d+)(?:-(\d+))?", token)
    if span:
        first, last = int(span[1]), int(span[2] or span[1])
        if last < first or last >= len(names):
            raise UserError(f"class {token!r} is out of range; the source has classes 0 to {len(names) - 1}")
        return list(range(first, last + 1))
    if token in ids:
        return [list(ids).index(token)]
    found = [i for i, name in enumerate(names) if name == token]
    found = found or [i for i, name in enumerate(names) if name.lower() == token.lower()]
    if len(found) > 1:
        raise UserError(
            f"class name {token!r} is ambiguous (classes {', '.join(map(str, found))}); give the number instead"
        )
    if not found:
        raise UserError(
            f"unknown class {token!r}; the source has {len(names)} classes ({', '.join(list(names)[:3])}, ...); give numbers, names "
            f"or identifiers from ppgen sources"
        )
    return found
