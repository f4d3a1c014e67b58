"""JSON and YAML that is read back: bounded, then validated against a type by pydantic, with one line of what was wrong."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ppcore.storage.limits import MAX_JSON_BYTES, require_file

T = TypeVar("T")
_LONGEST = 500  # characters of a complaint


class MismatchError(ValueError):
    """A value that is not of the wanted type; the text is one line, the attributes are the first of pydantic's complaints.

    Attributes:
        place: names and positions that lead to the value.
        problem: pydantic's word for what is wrong, such as `float_parsing`.
        value: what was found there.
        bounds: what was expected, where that is a number or a choice: `{"ge": 0}`.
    """

    def __init__(self, error: ValidationError) -> None:
        super().__init__(first_problem(error))
        found = error.errors(include_url=False)[0]
        self.place, self.problem, self.value = found["loc"], found["type"], found["input"]
        self.bounds: dict[str, Any] = found.get("ctx", {})


def decode(kind: type[T], data: bytes | str) -> T:
    """JSON text as `kind`: a (frozen) dataclass, a pydantic model or any type pydantic knows; nothing is coerced.

    Fields a dataclass does not have are refused where it sets `__pydantic_config__ = ConfigDict(extra="forbid")`.

    Raises:
        ValueError: too large, not JSON, nested too deeply, or not of that type; the text is one line.
    """
    if len(data) > MAX_JSON_BYTES:
        raise ValueError(f"{len(data)} bytes of JSON, at most {MAX_JSON_BYTES} are accepted")
    try:
        return _adapter(kind).validate_json(data, strict=True)  # type: ignore[arg-type]
    except ValidationError as error:
        raise ValueError(first_problem(error)) from None


def read_json(path: Path, kind: type[T]) -> T:
    """A local JSON file as `kind`, see :func:`decode`.

    Raises:
        OSError: it cannot be read.
        ValueError: its content is not of that type.
        UserError: no regular file, or too large.
    """
    require_file(path, MAX_JSON_BYTES)
    return decode(kind, path.read_bytes())


def convert(kind: type[T], value: Any) -> T:
    """A plain value, from YAML say, as `kind`; numbers may stand in texts.

    Raises:
        MismatchError: not of that type.
    """
    try:
        return _adapter(kind).validate_python(value)  # type: ignore[arg-type]
    except ValidationError as error:
        raise MismatchError(error) from None


def first_problem(error: ValidationError) -> str:
    """`segments.0.samples: input should be greater than 0`, of the first of pydantic's complaints."""
    found = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in found["loc"])
    message = found["msg"][:1].lower() + found["msg"][1:]
    text = f"{place}: {message}" if place else message
    # A hostile document's keys are in it: nothing of them may reach the terminal's control characters.
    return "".join(c if c.isprintable() else "?" for c in text[:_LONGEST])


@functools.cache
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(kind)
