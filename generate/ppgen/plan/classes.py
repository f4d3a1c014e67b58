"""Reading `--classes`: which classes of a source are sampled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ppcore.errors import UserError, require_positive


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
