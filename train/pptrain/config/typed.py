"""Plain values -> typed dataclasses, with errors that name the setting and the nearest known name."""

from __future__ import annotations

import difflib
import math
import types
import typing
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from ppcore.errors import UserError

T = TypeVar("T")


def from_dict(cls: type[T], values: dict[str, Any], where: str = "") -> T:
    """Build dataclass `cls` from a nested mapping.

    Raises:
        UserError: unknown key, or a value that does not fit the field's type.
    """
    hints = typing.get_type_hints(cls)
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    built: dict[str, Any] = {}
    for name, value in values.items():
        path = f"{where}.{name}" if where else str(name)
        if name not in known:
            raise UserError(f"unknown setting {path!r}; {suggest(str(name), known)}")
        built[name] = _convert(hints[name], value, path)
    return cls(**built)


def suggest(name: str, known: list[str]) -> str:
    """`did you mean ...` or the whole list."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(known)}"


def set_path(values: dict[str, Any], path: str, value: Any) -> None:
    """Set `values["a"]["b"] = value` for path "a.b"."""
    *parents, last = path.split(".")
    inner = values
    for parent in parents:
        child = inner.get(parent)
        inner[parent] = dict(child) if isinstance(child, dict) else {}
        inner = inner[parent]
    inner[last] = value


def _convert(hint: Any, value: Any, path: str) -> Any:
    origin = typing.get_origin(hint)
    if is_dataclass(hint):
        if not isinstance(value, dict):
            raise UserError(f"{path} is {value!r}; expected a mapping of settings")
        return from_dict(typing.cast(type, hint), value, path)
    if origin in (types.UnionType, typing.Union):
        if value is None or (isinstance(value, str) and value.lower() in ("null", "none", "auto")):
            return None
        return _convert(next(a for a in typing.get_args(hint) if a is not type(None)), value, path)
    if origin is list:
        if isinstance(value, str | int | float):
            value = [value]  # one directory needs no brackets
        if not isinstance(value, list | tuple):
            raise UserError(f"{path} is {value!r}; expected a list")
        return [_convert(typing.get_args(hint)[0], item, path) for item in value]
    if origin is dict or hint is Any:
        return value
    return _scalar(hint, value, path)


def _scalar(hint: type, value: Any, path: str) -> Any:
    """A str, bool, int or float; numbers may come as text from the command line or as 1e-3 from YAML."""
    if hint is str and isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    if hint is bool and (isinstance(value, bool) or str(value).lower() in ("true", "false")):
        return str(value).lower() == "true"
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint in (int, float) and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if hint is float and math.isfinite(number):
            return number
        if hint is int and number.is_integer():
            return int(number)
    raise UserError(f"{path} is {value!r}; expected a value of type {hint.__name__}")
