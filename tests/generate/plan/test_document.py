"""plan.json: written, read back, refused; and what differs between two plans."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from plans import make_plan

from ppcore.errors import UserError
from ppgen.plan.document import decode_plan, encode_plan, plan_differences
from ppgen.plan.plan import Segment, canonical_json


def test_json_round_trip_and_tampering() -> None:
    plan = make_plan(load={"source": "/somewhere"}, segments=(Segment(0, 75, 25), Segment(75, 3, (1, 2, 0))))
    text = encode_plan(plan)
    assert decode_plan(text, "plan.json") == plan
    assert decode_plan(text, "plan.json").load == plan.load
    changed = json.loads(text)
    for field, value in (("seed", 6), ("load", {"source": "os:system"})):
        with pytest.raises(UserError, match="changed after it was written"):
            decode_plan(json.dumps({**changed, field: value}).encode(), "plan.json")
    for broken in (b"{", b"[]", b"{}", b'{"format": "other"}'):
        with pytest.raises(UserError, match="is not a plan"):
            decode_plan(broken, "plan.json")


def forge(**changes: Any) -> bytes:
    """plan.json with other fields and the fingerprint that fits them."""
    content = {**json.loads(encode_plan(make_plan())), **changes}
    identity = {k: v for k, v in content.items() if k not in ("samples", "fingerprint")}
    content["fingerprint"] = hashlib.sha256(canonical_json(identity)).hexdigest()
    return json.dumps(content).encode()


PSEUDO = {
    "kind": "pseudo",
    "classes": [],
    "segments": [{"start": 0, "samples": 75, "per_class": None}],
    "target": {"name": "t", "images": 5},
    "condition": {"mode": "soft", "sha256": "0"},
}


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "other"},
        {"source": {"name": "d", "class_names": []}},
        {"source": {"name": "d", "class_names": ["a", 1]}},
        {"source": {"class_names": ["a"] * 10}},
        {"source": {"name": "d", "class_names": ["a"] * 10, "licence": 3}},
        {"classes": []},
        {"classes": [1, 4, 10]},
        {"classes": [1, 4, -1]},
        {"classes": [1, 4, 4]},
        {"classes": [1, 4, True]},
        {"batch_size": 0},
        {"batch_size": 8.0},
        {"samples_per_shard": 10**8},
        {"seed": 2**65},
        {"resolution": True},
        {"channels": 2},
        {"encoding": {"format": "gif"}},
        {"encoding": {"format": "png", "level": [6]}},
        {"encoding": {"format": "png", "other": 6}},
        {"segments": []},
        {"segments": [{"start": 5, "samples": 75, "per_class": 25}]},
        {"segments": [{"start": 0, "samples": 76, "per_class": 25}]},
        {"segments": [{"start": 0, "samples": 75, "per_class": [25, 50]}]},
        {"segments": [{"start": 0, "samples": 75, "per_class": None}]},
        {"segments": [{"start": 0, "samples": 75, "per_class": 25, "more": 1}]},
        {"segments": [{"start": 0, "samples": 3 * 10**8, "per_class": 10**8}], "samples_per_shard": 1},
        {"score": [1]},
        {"load": []},
        {"load": {"source": 3}},
        {"load": {"source": "x" * 10**4}},
        {"load": {"class_map": {"a": 1}}},
        {"load": {"trust_remote_code": "yes"}},
        {"load": {"more": 1}},
        {"source": {"name": "\x1b[2J", "class_names": ["a"] * 10}},
        {"target": {"name": "t", "images": 5}},
        {"more": 1},
        {"merged": [{}]},
        {**PSEUDO, "classes": [1]},
        {**PSEUDO, "target": None},
        {**PSEUDO, "target": {"name": "t", "images": 0}},
        {**PSEUDO, "condition": {"mode": "hard", "sha256": "0"}},
        {**PSEUDO, "condition": {"mode": "soft"}},
        {**PSEUDO, "segments": [{"start": 0, "samples": 75, "per_class": 25}]},
    ],
    ids=str,
)
def test_what_no_request_can_ask_for_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="is not a plan of ppgen") as caught:
        decode_plan(forge(**changes), "plan.json")
    assert "\n" not in str(caught.value)


def test_forged_plans_that_could_be_requests_are_read() -> None:
    """Proves that the test above can fail."""
    assert decode_plan(forge(), "plan.json") == make_plan()
    assert decode_plan(forge(**PSEUDO), "plan.json").target == PSEUDO["target"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 1}, "is a plan of version 1, this ppgen reads version 2"),
        ({"version": 3}, "is a plan of version 3"),
        ({"redraw": {"below": 0.5, "draws": 10}}, "--drop-below"),
    ],
)
def test_plans_of_another_ppgen_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        decode_plan(forge(**changes), "plan.json")


def test_the_fingerprint_covers_how_the_source_was_loaded() -> None:
    assert make_plan().fingerprint != make_plan(load={"source": "a"}).fingerprint
    assert make_plan().shard_fingerprint(0) == make_plan(load={"source": "a"}).shard_fingerprint(0)
    assert plan_differences(make_plan(), make_plan(load={"source": "a"})) == []


def test_differences_are_named() -> None:
    other = make_plan(seed=6, segments=(Segment(0, 30, 10),), encoding={"format": "jpg", "quality": 95})
    assert plan_differences(make_plan(), other) == [
        "encoding.format png -> jpg",
        "encoding.level 6 -> none",
        "encoding.quality none -> 95",
        "per_class 25 -> 10",
        "seed 5 -> 6",
    ]
    grown = make_plan(segments=(Segment(0, 75, 25), Segment(75, 75, 25)))
    assert plan_differences(grown, make_plan(segments=(Segment(0, 150, 50),))) == []
