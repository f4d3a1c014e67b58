"""What a plan may name by itself, and what must be typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ppcore.errors import UserError
from ppgen.options import PlannedOptions
from ppgen.sources import SourceSpec, planned_spec, planned_target

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
    spec = planned_spec(json.loads(json.dumps(load(**changes, target="digits"))), PlannedOptions(), "cpu")
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
        planned_spec(load(**changes), PlannedOptions())
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_code_runs_only_if_it_is_typed_or_trusted() -> None:
    """`--trust-code` allows code; code that a hub repository brings has no name to type, so it always needs the flag."""
    for changes, _ in CODE:
        assert planned_spec(load(**changes), PlannedOptions(trust_code=True)).trust_code
    assert planned_spec(load(source="mine:build"), PlannedOptions("mine:build")).source == "mine:build"
    assert planned_spec(load(source="mine:build"), PlannedOptions("moved/folder")).source == "moved/folder"
    assert planned_spec(
        load(classifier="mine:Net@w.pth"), PlannedOptions(classifier="mine:Net@w.pth")
    ).classifier
    remote = load(source="owner/name", revision=COMMIT, trust_remote_code=True)
    with pytest.raises(UserError, match="--trust-code"):
        planned_spec(remote, PlannedOptions("owner/name"))


@pytest.mark.parametrize(("changes", "told"), PLACES, ids=str)
def test_a_place_that_is_typed_is_opened(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        planned_spec(load(**changes), PlannedOptions(trust_code=True))
    spec = planned_spec(load(**changes), PlannedOptions("/here", "/there"))
    assert (spec.source, spec.classifier) == ("/here", "/there")


def test_a_folder_of_the_same_name_is_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("resnet50", "owner/name"):
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(UserError, match="--classifier"):
        planned_spec(load(classifier="resnet50"), PlannedOptions())
    with pytest.raises(UserError, match="--source"):
        planned_spec(load(source="owner/name", revision=COMMIT), PlannedOptions())


def test_a_report_needs_the_classifier_alone() -> None:
    def planned(typed: PlannedOptions = PlannedOptions(), **changes: Any) -> SourceSpec:
        return planned_spec(load(**changes), typed, classifier_only=True)

    assert planned().source == "letters"
    assert planned(source="os:system").source == "none"
    assert planned(source="/etc", classifier="resnet50").source == "none"
    assert planned(PlannedOptions(classifier="mine"), source="/etc").classifier == "mine"
    with pytest.raises(UserError, match="--source"):
        planned(source="/etc")


def test_targets() -> None:
    pinned = f"hf://datasets/owner/name@{COMMIT}"
    assert planned_target(load(target="digits"), "digits", None) == "digits"
    assert planned_target(load(target=pinned), "name", None) == pinned
    for place in ("/etc", "hf://datasets/owner/name", "train=/home/*", "digits/../x"):
        with pytest.raises(UserError, match="--reference"):
            planned_target(load(target=place), "etc", None)
        assert planned_target(load(target=place), "etc", place) == place
        assert planned_target(load(target=place), "etc", "none") is None


@pytest.mark.parametrize(
    "change", [{"source": 3}, {"sampling": [1]}, {"trust_remote_code": "yes"}, {"class_map": {"a": 1}}]
)
def test_another_memo_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="how its source was loaded"):
        planned_spec(load(**change), PlannedOptions())
