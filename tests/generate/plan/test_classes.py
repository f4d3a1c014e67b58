"""The words of --classes."""

from __future__ import annotations

import pytest

from ppcore.errors import UserError
from ppcore.kits import IMAGENET_IDS, get_kit
from ppgen.plan.build import parse_classes
from ppgen.sources import known_ids

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
        ("0-2,Tench,Tinca Tinca,a", (0, 1, 2, 4, 6)),  # the name with a comma, not two names
        ("tinca tinca,C", (4, 2)),
        ("C,tench", (2, 4)),
    ],
)
def test_class_lists(text: str | None, expected: tuple[int, ...]) -> None:
    assert parse_classes(text, NAMES, IDS) == expected


def test_classes_of_imagenet_by_wordnet_id_and_by_one_of_their_names() -> None:
    from ppcore.classifiers import imagenet_class_names

    names = imagenet_class_names()
    assert parse_classes("n01440764,n15075141,goldfish", names) == (0, 999, 1)
    long = tuple(f"{name}, Latin {i}" for i, name in enumerate(names))  # as DiT names them
    assert parse_classes("n01440764,goldfish,latin 7", long) == (0, 1, 7)
    with pytest.raises(UserError, match=r"ambiguous \(classes 134, 517\)"):
        parse_classes("crane", [name.replace("crane bird", "crane") for name in long])
    numbers = [str(i) for i in range(1000)]
    with pytest.raises(UserError, match="unknown class"):  # 1,000 classes, but whose?
        parse_classes("n01440764", numbers)
    kit = get_kit("cd-imagenet-64")
    assert parse_classes("n01440764,4", numbers, known_ids(numbers, kit)) == (0, 4)


def test_the_wordnet_ids_are_those_of_timm() -> None:
    timm = pytest.importorskip("timm.data")
    assert list(IMAGENET_IDS) == timm.ImageNetInfo("imagenet-1k").label_names()


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
