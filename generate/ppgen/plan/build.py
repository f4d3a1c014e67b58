"""Building a plan from the options and the open source. Nothing is written."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ppcore.classifiers import Classifier
from ppcore.console import print_warnings, printable, printable_name
from ppcore.errors import UserError, require_positive
from ppcore.kits import is_commit
from ppcore.targets import ImageSet, Target, describe_target, few_shot, find_problems, load_target
from ppgen.options import PseudoOptions, ShardOptions, SynthOptions
from ppgen.plan.conditions import Conditions, conditions_sha256, measure
from ppgen.plan.plan import LOSSLESS_UP_TO, Plan, Segment, canonical_json
from ppgen.sources import (
    ClassIndex,
    Generator,
    SourceSpec,
    automatic_batch_size,
    describe_classifier,
    describe_score,
    describe_source,
    known_ids,
    open_classifier,
    source_kit,
)

PER_IMAGE = 10
"""Samples for every target image if neither --per-image nor --count is given."""
_ENCODINGS: dict[str, dict[str, Any]] = {
    "jpg": {"format": "jpg", "quality": 95, "subsampling": "444"},
    "png": {"format": "png", "level": 6},
    "webp": {"format": "webp", "quality": 95},
}
_MAX_SHARD = 1000  # samples; 1,300 shards for ImageNet's 1.3 million
_BINARY_SHARD = 1024  # used if the batch size divides it and not 1,000: a short batch is padded and takes as long as a full one
_MOST_NAMES = 16  # of one class; ImageNet's have up to 10
_FEW_SHARDS = 16  # at least about so many, so that several workers can share a small plan


def build_synth_plan(generator: Generator, spec: SourceSpec, options: SynthOptions) -> Plan:
    """A plan with the same number of samples of every class, or with more of those that a target resembles (`--like`).

    Raises:
        UserError: unknown classes, unknown format; no classifier, or an unusable target, where they are needed.
    """
    names = generator.class_names
    ids = parse_classes(options.classes, names, known_ids(names, source_kit(spec.source)))
    total = len(ids) * options.per_class
    segment = Segment(0, total, options.per_class)
    if options.like is not None:
        images, _ = _labelled_images(
            options.like, options.labels_per_class, options.label_seed, options.shards
        )
        conditions, *_ = measure(images, _classifier(spec, generator), temperature=None, top_k=None)
        counts = share_out(
            total, conditions.soft.mean(axis=0, dtype=np.float64)[list(ids)], options.like_share
        )
        follow = f"{options.like_share:.0%} follow the mean soft label of {printable(options.like)}"
        print(f"samples a class: {min(counts)} to {max(counts)}; {follow}", flush=True)
        ids = tuple(label for label, count in zip(ids, counts, strict=True) if count)
        segment = Segment(0, total, tuple(count for count in counts if count))
    score = describe_score(_classifier(spec, generator)) if options.shards.score else None
    return Plan(
        kind="synth",
        classes=ids,
        segments=(segment,),
        score=score,
        **_common(generator, spec, segment, options.shards),
    )


def build_pseudo_plan(
    generator: Generator, spec: SourceSpec, options: PseudoOptions
) -> tuple[Plan, Conditions]:
    """A plan of samples conditioned on target images, and the condition table.

    Raises:
        UserError: unknown, empty or damaged target; no classifier for the source.
    """
    images, target = _labelled_images(
        options.place, options.labels_per_class, options.label_seed, options.shards
    )
    label_seed = options.shards.seed if options.label_seed is None else options.label_seed
    classifier = _classifier(spec, generator)
    conditions, temperature, pixels = measure(
        images,
        classifier,
        temperature=options.temperature,
        top_k=options.top_k,
        norm_share=getattr(generator, "norm_share", None) if options.condition == "soft" else None,
    )
    samples = options.count if options.count is not None else (options.per_image or PER_IMAGE) * len(images)
    segment = Segment(0, samples)
    described = describe_classifier(classifier)
    plan = Plan(
        kind="pseudo",
        classes=(),
        segments=(segment,),
        target={
            "name": target.name,
            "images": len(images),
            "labels_per_class": options.labels_per_class,
            "label_seed": label_seed if options.labels_per_class is not None else None,
            "sha256": pixels,
        },
        condition={
            "mode": options.condition,
            "temperature": float(temperature),
            "top_k": options.top_k,
            "classifier": described,
            "sha256": conditions_sha256(conditions),
        },
        score=describe_score(classifier) if options.shards.score else None,
        **_common(generator, spec, segment, options.shards, options.place),
    )
    return plan, conditions


def _labelled_images(
    place: str, labels_per_class: int | None, label_seed: int | None, shards: ShardOptions
) -> tuple[ImageSet, Target]:
    """The labelled images of a target that are used, and the target, after telling what was read and what is doubtful."""
    target = load_target(place)
    print(*map(printable, describe_target(target)), sep="\n", flush=True)
    print_warnings(find_problems(target))
    seed = shards.seed if label_seed is None else label_seed
    return target.train.select(few_shot(target.train.labels, labels_per_class, seed)), target


def _classifier(spec: SourceSpec, generator: Generator) -> Classifier:
    return open_classifier(spec, generator.num_classes, generator.class_names)


def share_out(total: int, favoured: np.ndarray, share: float) -> list[int]:
    """How many of `total` samples each class gets: `share` of them in proportion to `favoured`, the others as many of every class.

    Args:
        favoured: float64 (n,), at least 0, the mean soft label of the target over the classes.

    Returns:
        n counts with the sum `total`, by largest remainders.
    """
    even = np.full(len(favoured), 1 / len(favoured))
    wanted = total * (share * (favoured / favoured.sum() if favoured.sum() else even) + (1 - share) * even)
    counts = np.floor(wanted).astype(np.int64)
    most = np.argsort(counts - wanted, kind="stable")[: total - counts.sum()]
    counts[most] += 1
    return counts.tolist()


def _common(
    generator: Generator, spec: SourceSpec, segment: Segment, options: ShardOptions, target: str | None = None
) -> dict[str, Any]:
    """The fields of the plan that both kinds have."""
    print_warnings(getattr(generator, "warnings", ()))
    batch = options.batch_size or automatic_batch_size(generator)
    batches = max(1, round(segment.samples / _FEW_SHARDS / batch))
    per_shard = options.samples_per_shard or max(batch, min(_most_of_a_shard(batch), batches * batch))
    source = describe_source(generator, spec)
    return {
        "source": json.loads(
            canonical_json({**source, "reproducible": True} if options.reproducible else source)
        ),
        "load": _load(generator, spec, target),
        "seed": options.seed,
        "batch_size": min(batch, per_shard, segment.samples),
        "samples_per_shard": per_shard,
        "encoding": choose_encoding(options.image_format, generator.resolution),
        "resolution": generator.resolution,
        "channels": generator.channels,
    }


def _load(generator: Generator, spec: SourceSpec, target: str | None) -> dict[str, Any]:
    """How later commands load the source. A hub repository is recorded with the commit that was used."""
    hint = spec.hint() if target is None else {**spec.hint(), "target": target}
    hint = {name: printable_name(value) if isinstance(value, str) else value for name, value in hint.items()}
    return {**hint, "revision": generator.revision} if is_commit(generator.revision) else hint


def _most_of_a_shard(batch: int) -> int:
    """Samples in a shard of a large plan."""
    return _BINARY_SHARD if _BINARY_SHARD % batch == 0 and _MAX_SHARD % batch else _MAX_SHARD


def choose_encoding(image_format: str, resolution: int) -> dict[str, Any]:
    """The plan's `encoding`: a format and the settings of its encoder."""
    if image_format == "auto":
        image_format = "png" if resolution <= LOSSLESS_UP_TO else "jpg"
    return dict(_ENCODINGS[image_format])


def parse_classes(text: str | None, names: Sequence[str], ids: Sequence[str] = ()) -> tuple[int, ...]:
    """Class numbers, in the order given.

    Args:
        text: `N` (the first N classes), a list with commas of numbers, ranges `a-b`, identifiers (WordNet ids) and names, or
            `@file` with one of these a line; None means all. One of several names of a class is enough ("tench" of "tench, Tinca tinca").
        names, ids: of the source's K classes; () takes ImageNet's ids where the names are ImageNet's.

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
    index = ClassIndex(names, ids)
    for token in _tokens(text, index):
        chosen.extend(_classes_of(token, names, index))
    if not chosen:
        raise UserError(f"--classes {text!r} names no class; give a number, a list, ranges or @file")
    repeated = sorted({c for c in chosen if chosen.count(c) > 1}) if len(set(chosen)) < len(chosen) else []
    if repeated:
        raise UserError(
            f"--classes names class {repeated[0]} ({names[repeated[0]]}) more than once; name every class once"
        )
    return tuple(chosen)


def _tokens(text: str, index: ClassIndex) -> list[str]:
    if not text.startswith("@"):
        return _split(text, index)
    try:
        lines = Path(text[1:]).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read the class list {text[1:]!r} ({error}); give @file with one class a line"
        ) from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _split(text: str, index: ClassIndex) -> list[str]:
    """The classes in a list with commas; names may contain commas themselves, so the longest name at each place counts."""
    parts, tokens = text.split(","), []
    while parts:
        end = next(
            (n for n in range(min(len(parts), _MOST_NAMES), 1, -1) if index.find(",".join(parts[:n]))), 1
        )
        tokens.append(",".join(parts[:end]).strip())
        parts = parts[end:]
    return [token for token in tokens if token]


def _classes_of(token: str, names: Sequence[str], index: ClassIndex) -> list[int]:
    span = re.fullmatch(r"(\d+)(?:-(\d+))?", token)
    if span:
        first, last = int(span[1]), int(span[2] or span[1])
        if last < first or last >= len(names):
            raise UserError(f"class {token!r} is out of range; the source has classes 0 to {len(names) - 1}")
        return list(range(first, last + 1))
    found = index.find(token)
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
