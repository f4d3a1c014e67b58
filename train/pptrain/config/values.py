"""What the value of a setting may be: the types of the fields of settings and of a method's options.

Numbers may stand in texts: YAML takes 1e-3 for one, and a command line has nothing else.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field

T = TypeVar("T")


def _number(value: Any) -> Any:
    """A text that spells a number, as that number; true and false as texts, which are none."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
    return value


def _automatic(value: Any) -> Any:
    """None for the texts that ask for the program's choice."""
    return None if isinstance(value, str) and value.lower() in ("null", "none", "auto") else value


def _unnamed(value: Any) -> Any:
    """Nothing for the texts that ask for nothing."""
    return "" if _automatic(value) is None else value


def _listed(value: Any) -> Any:
    """One directory needs no brackets."""
    return [value] if isinstance(value, str | int | float) else value


Integer = Annotated[int, BeforeValidator(_number)]
Count = Annotated[int, Field(ge=0), BeforeValidator(_number)]
PositiveCount = Annotated[int, Field(gt=0), BeforeValidator(_number)]
Number = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_number)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_number)]
PositiveAmount = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_number)]
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False), BeforeValidator(_number)]
Automatic = Annotated[T | None, BeforeValidator(_automatic)]
Unnamed = Annotated[str, BeforeValidator(_unnamed)]
Listed = Annotated[list[T], BeforeValidator(_listed)]
numeric = BeforeValidator(_number)
"""For a choice among numbers: Annotated[Literal[1, 3], numeric]."""
