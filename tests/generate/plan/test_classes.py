"""The words of --classes."""

from __future__ import annotations

import pytest

from ppcore.errors import UserError
from ppgen.plan.build import parse_classes

NAMES = ("A", "B", "C", "crane", "tench, Tinca tinca", "crane", "a")
IDS = tuple(f"n{i:08d}" for i in range(7))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, (0, 1, 2, 3, 4, 5, 6)),
        ("3", (0, 1, 2)),
        ("3,", (3,)),
        ("0-2,5", (0, 1, 2, 5)),
        ("A, a", (0, 6)),
        ("n00000004,b", (4, 1)),
        ("tench, Tinca tinca", (4,)),
    ],
)
def test_class_lists(text: str | None, expected: tuple[int, ...]) -> None:
    assert parse_classes(text, NAMES, IDS) == expected


def test_class_file(tmp_path) -> None:
    (tmp_path / "list").write_text("# two\ntench, Tinca tinca\nn00000001\n\n5-6\n")
    assert parse_classes(f"@{tmp_path}/list", NAMES, IDS) == (4, 1, 5, 6)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0", "above zero"),
        ("-3", "above zero"),
        ("8", "the source has 7"),
        ("5-9", "out of range"),
        ("2-1", "out of range"),
        ("crane", "ambiguous"),
        ("Z", "unknown class"),
        ("1,1", "more than once"),
        ("@/no/such/file", "cannot read the class list"),
        (",", "names no class"),
    ],
)
def test_wrong_class_lists(text: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        parse_classes(text, NAMES, IDS)
