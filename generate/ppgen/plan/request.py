"""What `ppgen synth` and `ppgen pseudo` ask for. A request that exists is in order, as far as one can tell without the source."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ppcore.errors import UserError, require_positive
from ppgen.plan.conditions import MODES


@dataclass(frozen=True)
class Settings:
    """What both kinds of plan have in common. None lets the plan's size decide. Raises UserError for what cannot be.

    Attributes:
        score: store the source classifier's confidence in every sample.
        reproducible: the same bytes every time on the same hardware (see :func:`ppgen.sources.make_deterministic`).
        drop_below: draw samples below this confidence again (see :mod:`ppgen.shards.redraw`); implies `score`.
    """

    seed: int = 0
    batch_size: int | None = None
    samples_per_shard: int | None = None
    image_format: str = "auto"
    score: bool = False
    drop_below: float | None = None
    reproducible: bool = False

    def __post_init__(self) -> None:
        for name, value in (
            ("--batch-size", self.batch_size),
            ("--samples-per-shard", self.samples_per_shard),
        ):
            if value is not None:
                require_positive(name, value)
        if self.drop_below is not None and not 0 < self.drop_below < 1:
            raise UserError(f"--drop-below is {self.drop_below}; give a probability between 0 and 1")

    @property
    def scored(self) -> bool:
        """Whether every sample's confidence is computed."""
        return self.score or self.drop_below is not None


@dataclass(frozen=True)
class SynthRequest:
    """Which source classes are sampled, and how often each. Raises UserError for what cannot be.

    Attributes:
        classes: see :func:`parse_classes`.
    """

    classes: str | None
    per_class: int

    def __post_init__(self) -> None:
        require_positive("--per-class", self.per_class)


@dataclass(frozen=True)
class PseudoRequest:
    """Which target images condition the generator, how, and how often. Raises UserError for what cannot be.

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

    def __post_init__(self) -> None:
        if (self.per_image is None) == (self.count is None):
            raise UserError(
                "give either --per-image or --count, samples for every target image or samples in all"
            )
        for name, value in (
            ("--per-image", self.per_image),
            ("--count", self.count),
            ("--labels-per-class", self.labels_per_class),
            ("--top-k", self.top_k),
            ("--temperature", self.temperature),
        ):
            if value is not None:
                require_positive(name, value)
        if self.mode not in MODES:
            raise UserError(f"unknown condition {self.mode!r}; choose {', '.join(MODES)}")


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
