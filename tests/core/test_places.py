"""Places as people write them, and names that are no text in UTF-8."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ppcore.console import parse_settings, printable, printable_name
from ppcore.places import local_path, local_paths, look_in_working_directory
from ppcore.storage import Store, decode

BYTE = os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("~/x", "/me/x"),
        ("--out=~/x", "--out=/me/x"),
        ("mine=~/x", "mine=/me/x"),
        ("train=~/a/*,test=~/b/*", "train=/me/a/*,test=/me/b/*"),
        ("resnet18@~/w.pth", "resnet18@/me/w.pth"),
        ("bank:~/x", "bank:/me/x"),
        ("~nobody-has-this-name/x", "~nobody-has-this-name/x"),
        ("a/~/x", "a/~/x"),
        ("x~/y", "x~/y"),
        ("steps=~", "steps=~"),  # YAML's null
        ("a photo, ~ 3", "a photo, ~ 3"),
        ("file:///a%20b/c", "/a b/c"),
        ("file://localhost/a", "/a"),
        ("file:///caf%E9", f"/{BYTE}"),
        ("train=file:///a/*,test=file:///b%2C/*", "train=/a/*,test=/b,/*"),
        ("s3://bucket/~/x", "s3://bucket/~/x"),
        ("hf://datasets/a/b@main", "hf://datasets/a/b@main"),
    ],
)
def test_home_and_urls(text: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/me")
    assert local_path(text) == meant


def test_values_of_yaml_and_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    here = str(tmp_path)
    assert local_paths({"a": ["~/x", 3], "b": None}) == {"a": [f"{here}/x", 3], "b": None}
    assert parse_settings(["data.shards=[~/a, ~/b]"], "") == {"data.shards": [f"{here}/a", f"{here}/b"]}
    Store("~/x").write_atomic("n" * 250, b"1")
    assert (tmp_path / "x" / ("n" * 250)).is_file()
    assert Store(f"file://{here}/x").is_local


def test_names_outside_utf_8_become_text() -> None:
    assert printable_name("Größe\t") == "Größe\t"
    assert printable_name(BYTE) == printable(BYTE) == r"caf\xe9"
    assert printable_name("caf\udcc3\udca9") == "café"  # how Python reads the name in the locale C
    assert printable_name("\ud800") == "?"
    assert decode(list[str], r'["caf\udce9", "\ud83d\udce9"]') == [r"caf\xe9", "📩"]


def test_the_working_directory_is_searched_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["/a", "/b"])
    look_in_working_directory()
    look_in_working_directory()
    assert sys.path == ["/a", "/b", str(tmp_path)]
