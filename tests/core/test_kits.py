"""Kits: named ones, and directories that someone else made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ppcore.errors import UserError
from ppcore.kits import KIT_FILE, KITS, get_kit, list_kits

SOUND: dict[str, Any] = {
    "name": "mine",
    "family": "unet",
    "generator": "generator",
    "classifier": "resnet50",
    "licence": "CC0-1.0",
    "commercial": True,
    "resolution": 16,
}


def write(folder: Path, **changes: Any) -> str:
    (folder / KIT_FILE).write_text(json.dumps(SOUND | changes))
    return str(folder)


def test_every_named_kit_opens() -> None:
    assert [kit.name for kit in list_kits()] == list(KITS)
    assert len(get_kit("letters").class_names) == 42


def test_parts_lie_in_the_kits_folder_or_are_names(tmp_path: Path) -> None:
    (tmp_path / "generator").mkdir()
    kit = get_kit(write(tmp_path))
    assert (kit.generator, kit.classifier) == (str(tmp_path / "generator"), "resnet50")


def test_names_mean_the_same_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kit's hub repository has a commit; what lies in the working directory is none of its parts."""
    kit = get_kit(write(tmp_path, generator="owner/name", revision="a" * 40, classifier="timm/resnet18.a1"))
    assert (kit.generator, kit.classifier) == ("owner/name", "timm/resnet18.a1")
    assert get_kit(write(tmp_path, family="callable", generator="m:f")).generator == "m:f"
    (tmp_path / "work" / "resnet18").mkdir(parents=True)
    (tmp_path / "work" / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    for change in (
        {"generator": "owner/name", "revision": "main"},
        {"generator": "owner/name", "revision": "a" * 40},
        {"generator": "m:f"},
        {"classifier": "resnet18"},
        {"classifier": "resnet50@weights.pth"},
        {"classifier": "m:f@weights.pth"},
    ):
        with pytest.raises(UserError, match="not in its folder"):
            get_kit(write(tmp_path, **change))


def test_links_out_of_a_kit_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "kit"
    folder.mkdir()
    (folder / "generator").symlink_to(tmp_path)
    with pytest.raises(UserError, match="symbolic link out of"):
        get_kit(write(folder))


@pytest.mark.parametrize("path", ["../secret", "/etc", "a/../../b"])
@pytest.mark.parametrize("part", ["generator", "classifier"])
def test_parts_outside_are_refused(tmp_path: Path, part: str, path: str) -> None:
    with pytest.raises(UserError, match="outside its folder"):
        get_kit(write(tmp_path, **{part: path}))


@pytest.mark.parametrize(
    "change",
    [
        {"resolution": 10**9},
        {"resolution": "16"},
        {"class_names": "abc"},
        {"code": "os:system"},
        {"name": None},
        {"name": "\x1b[2J"},
    ],
)
def test_what_is_no_kit_is_refused_in_words(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="does not describe a kit"):
        get_kit(write(tmp_path, **change))


def test_an_unknown_source_names_the_known() -> None:
    with pytest.raises(UserError, match="expected one of letters"):
        get_kit("nosuch")
