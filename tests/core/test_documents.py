"""Documents that are read back: typed, bounded, refused in one line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from pydantic import ConfigDict, Field

from ppcore.storage import convert, decode


@dataclass(frozen=True)
class Part:
    __pydantic_config__ = ConfigDict(extra="forbid")
    samples: Annotated[int, Field(gt=0)]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    extra: dict[str, Any]


def test_a_document_becomes_its_type() -> None:
    assert decode(Whole, b'{"parts": [{"samples": 3, "names": ["a"]}], "extra": {"x": [1]}}') == Whole(
        (Part(3, ("a",)),), {"x": [1]}
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"parts": [{"samples": 0}], "extra": {}}', "parts.0.samples: input should be greater than 0"),
        ('{"parts": [{"samples": "3"}], "extra": {}}', "parts.0.samples: "),
        ('{"parts": [{"samples": true}], "extra": {}}', "parts.0.samples: "),
        ('{"parts": [{"samples": 1, "code": "os:system"}], "extra": {}}', "parts.0.code: "),
        ('{"parts": []}', "extra: field required"),
        ("[1, 2]", "input should be"),
        ('{"parts": [', "invalid JSON"),
        ('{"parts": [], "extra": {"a": ' + "[" * 5000 + "]" * 5000 + "}}", "recursion"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        decode(Whole, text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_of_yaml_may_be_texts() -> None:
    assert convert(Part, {"samples": "3"}) == Part(3)
    with pytest.raises(ValueError, match="samples"):
        convert(Part, {"samples": "three"})


def test_a_hostile_key_does_not_reach_the_terminal() -> None:
    with pytest.raises(ValueError) as caught:
        decode(Part, json.dumps({"samples": 1, "\x1b]0;gone\x07" + "x" * 10_000: 2}))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
