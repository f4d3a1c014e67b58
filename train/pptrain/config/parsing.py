"""Plain values -> typed dataclasses, with errors that name the setting, what was expected, and the nearest known name."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

from ppcore.errors import UserError
from ppcore.storage import MismatchError, convert

T = TypeVar("T")

# By the first word of pydantic's name of the problem.
_TYPES = {"int": "int", "float": "float", "finite": "float", "bool": "bool", "string": "str"}
# By the whole of it.
_EXPECTED = {
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "a number below {lt:g}",
    "dataclass_type": "a mapping of settings",
    "dict_type": "a mapping of settings",
    "list_type": "a list",
}


def parse(kind: type[T], values: dict[str, Any], where: str = "") -> T:
    """Build the dataclass `kind` from a nested mapping.

    Args:
        where: name of the mapping among the settings, for messages.

    Raises:
        UserError: unknown key, or a value that does not fit its field.
    """
    try:
        return convert(kind, values)
    except MismatchError as error:
        raise UserError(_explain(kind, error, where)) from error


def suggest(name: str, known: Sequence[str]) -> str:
    """`did you mean ...` or the whole list."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(known)}"


def _explain(kind: type, error: MismatchError, where: str) -> str:
    path = ".".join(str(part) for part in (where, *error.place) if part != "")
    if error.problem in ("unexpected_keyword_argument", "invalid_key"):
        for part in error.place[:-1]:
            kind = typing.get_type_hints(kind)[str(part)]
        return f"unknown setting {path!r}; {suggest(str(error.place[-1]), [f.name for f in fields(kind)])}"
    return f"{path} is {error.value!r}; expected {_expected(error)}"


def _expected(error: MismatchError) -> str:
    if error.problem in _EXPECTED:
        return _EXPECTED[error.problem].format(**error.bounds)
    if error.problem == "literal_error":  # pydantic says: 'adamw' or 'sgd'
        return f"one of {error.bounds['expected'].replace(chr(39), '').replace(' or ', ', ')}"
    return f"a value of type {_TYPES.get(error.problem.partition('_')[0], error.problem)}"
