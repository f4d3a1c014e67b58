"""Every file, protocol and test that ARCHITECTURE.md names exists, and the import contracts of pyproject.toml hold."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "ARCHITECTURE.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.split("## Where do I add")[1].splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| what"))
]
PACKAGES = {
    "ppgen": "generate",
    "pptrain": "train",
    "pptransfer": "train",
    "ppcore": "core",
    "ppflow": "pipelines",
}


def _quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_table_is_there() -> None:
    assert len(ROWS) >= 8
    assert all(len(row) == 4 for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_place_exists(row: list[str]) -> None:
    _, files, protocol, tests = row
    assert _quoted(files)
    assert _quoted(tests)
    for name in (*_quoted(files), *_quoted(tests)):
        assert (ROOT / name).is_file(), name
    for name in _quoted(protocol):
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_is_described(package: str) -> None:
    """Rooms named in the picture exist, and none is missing from it."""
    block = TEXT.split("```")[3]
    part = block.split(f"{PACKAGES[package]}/{package}/")[1]
    part = re.split(r"\n\w+/\w+/", part)[0]
    folder = ROOT / PACKAGES[package] / package
    rooms = {path.parent.name for path in folder.glob("*/__init__.py")}
    missing = {room for room in rooms if not re.search(rf"\b{room}\b", part)}
    assert missing == set()
    drawn = re.findall(r"^ {0,21}(\w+) {2,}\w", part, flags=re.M)
    unknown = {
        name for name in drawn if not (folder / name).is_dir() and not (folder / f"{name}.py").is_file()
    }
    assert unknown == set()


def _lint_imports(tree: Path) -> int:
    paths = os.pathsep.join(str(tree / top) for top in set(PACKAGES.values()))
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True).returncode


@pytest.mark.parametrize("low", ["core/ppcore/seeds.py", "generate/ppgen/sources/catalogue.py"])
def test_the_contracts_hold_and_an_upward_import_breaks_them(low: str, tmp_path: Path) -> None:
    for top in set(PACKAGES.values()):
        shutil.copytree(
            ROOT / top, tmp_path / top, ignore=shutil.ignore_patterns("*.safetensors", "__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert _lint_imports(tmp_path) == 0
    with (tmp_path / low).open("a") as handle:
        handle.write("\nfrom ppgen.engines import base as _base\n")
    assert _lint_imports(tmp_path) == 1
