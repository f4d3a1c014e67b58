"""What a plan may name by itself, what has to be typed, and what was typed on this machine before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ppcore.errors import UserError
from ppgen.sources import (
    SourceSpec,
    Typed,
    is_own,
    planned_classifier,
    planned_spec,
    planned_target,
    remember_plan,
)

COMMIT = "a" * 40


def load(**changes: Any) -> dict[str, Any]:
    return {**SourceSpec("letters", dtype="float32", sampling={"steps": 3}).hint(), **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"source": "dit-xl-2-256", "classifier": "resnet50"},
        {"source": "owner/name", "revision": COMMIT, "classifier": "timm/resnet18.a1"},
        {"classifier": "letters", "class_map": {"x": "y"}},
    ],
)
def test_names_that_mean_the_same_everywhere(changes: dict[str, Any]) -> None:
    spec = planned_spec(json.loads(json.dumps(load(**changes, target="digits"))), Typed(), "cpu")
    wanted = load(**changes)
    assert (spec.source, spec.classifier, spec.class_map) == (
        wanted["source"],
        wanted["classifier"],
        wanted["class_map"],
    )
    assert (spec.dtype, spec.sampling, spec.device, spec.trust_code) == (
        "float32",
        {"steps": 3},
        "cpu",
        False,
    )
    assert spec.pickles == (wanted["source"] != "owner/name")


PLACES: list[tuple[dict[str, Any], str]] = [
    ({"source": "/etc"}, "--source"),
    ({"source": "generator"}, "--source"),
    ({"source": "../up"}, "--source"),
    ({"source": "bank:/home"}, "--source"),
    ({"source": "owner/name"}, "--source"),
    ({"source": "owner/name", "revision": "main"}, "--source"),
    ({"source": ""}, "--source"),
    ({"classifier": "/etc"}, "--classifier"),
    ({"classifier": "resnet50@/etc/passwd"}, "--classifier"),
    ({"classifier": "timm/../x"}, "--classifier"),
]
CODE: list[tuple[dict[str, Any], str]] = [
    ({"source": "os:system"}, "--source 'os:system' --trust-code"),
    (
        {"source": "owner/name", "revision": COMMIT, "trust_remote_code": True},
        "--source 'owner/name' --trust-code",
    ),
    ({"classifier": "os:system@x.pth"}, "--classifier 'os:system@x.pth' --trust-code"),
]


@pytest.mark.parametrize(("changes", "told"), [*PLACES, *CODE], ids=str)
def test_what_has_to_be_typed(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as caught:
        planned_spec(load(**changes), Typed())
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("changes", "told"), CODE, ids=str)
def test_code_has_to_be_typed_wherever_the_plan_was_made(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match="--trust-code"):
        planned_spec(load(**changes), Typed(), own=True)
    with pytest.raises(UserError, match="--trust-code"):
        planned_spec(load(**changes), Typed(trust_code=True))
    half = Typed(changes.get("source"), changes.get("classifier"))
    with pytest.raises(UserError, match="--trust-code"):
        planned_spec(load(**changes), half)
    whole = Typed(half.source, half.classifier, trust_code=True)
    assert planned_spec(load(**changes), whole).trust_code


def test_typed_code_is_compared_with_the_plan() -> None:
    with pytest.raises(UserError, match=r"is code and plan\.json names 'letters'"):
        planned_spec(load(), Typed("mine:build", trust_code=True))
    with pytest.raises(UserError, match=r"is code and plan\.json names 'yours:build'"):
        planned_spec(load(source="yours:build"), Typed("mine:build", trust_code=True))
    assert planned_spec(load(source="mine:build"), Typed("moved/folder")).source == "moved/folder"


@pytest.mark.parametrize(("changes", "told"), PLACES[:4] + PLACES[7:9], ids=str)
def test_places_are_opened_where_the_plan_was_made(changes: dict[str, Any], told: str) -> None:
    spec = planned_spec(load(**changes), Typed(), own=True)
    assert changes.items() <= vars(spec).items()


def test_a_folder_of_the_same_name_is_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("resnet50", "owner/name"):
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(UserError, match="--classifier"):
        planned_spec(load(classifier="resnet50"), Typed())
    with pytest.raises(UserError, match="--source"):
        planned_spec(load(source="owner/name", revision=COMMIT), Typed())


def test_a_report_needs_the_classifier_alone() -> None:
    assert planned_classifier(load(), Typed()).source == "letters"
    assert planned_classifier(load(source="os:system"), Typed()).source == "none"
    assert planned_classifier(load(source="/etc", classifier="resnet50"), Typed()).source == "none"
    assert planned_classifier(load(source="/etc"), Typed(classifier="mine")).classifier == "mine"
    with pytest.raises(UserError, match="--source"):
        planned_classifier(load(source="/etc"), Typed())


def test_targets() -> None:
    pinned = f"hf://datasets/owner/name@{COMMIT}"
    assert planned_target(load(target="digits"), "digits", None) == "digits"
    assert planned_target(load(target=pinned), "name", None) == pinned
    for place in ("/etc", "hf://datasets/owner/name", "train=/home/*", "digits/../x"):
        with pytest.raises(UserError, match="--reference"):
            planned_target(load(target=place), "etc", None)
        assert planned_target(load(target=place), "etc", place) == place
        assert planned_target(load(target=place), "etc", "none") is None
        assert planned_target(load(target=place), "etc", None, own=True) == place


def test_what_was_typed_here_is_remembered_by_its_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert not is_own("f" * 64)
    remember_plan("f" * 64, load(target="here"))
    assert is_own("f" * 64)
    assert not is_own("e" * 64)


@pytest.mark.parametrize(
    "change", [{"source": 3}, {"sampling": [1]}, {"trust_remote_code": "yes"}, {"class_map": {"a": 1}}]
)
def test_another_memo_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="how its source was loaded"):
        planned_spec(load(**change), Typed())
