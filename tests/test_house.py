"""The rules of the house that a program can check; the direction of imports is import-linter's (`make lint`)."""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOPS = ("core", "generate", "train", "pipelines")
PACKAGES = {
    "ppcore": ROOT / "core/ppcore",
    "ppgen": ROOT / "generate/ppgen",
    "pptrain": ROOT / "train/pptrain",
    "pptransfer": ROOT / "train/pptransfer",
    "ppflow": ROOT / "pipelines/ppflow",
}
MOST_LINES, MOST_MEDIAN, MOST_MODULES, MOST_EQUAL, MOST_POSITIONAL = 300, 120, 12, 9, 6


def _tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.py"], cwd=ROOT, capture_output=True, text=True
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


FILES = _tracked()
SOURCES = [file for file in FILES if any(folder in file.parents for folder in PACKAGES.values())]
TREES = {file: ast.parse(file.read_text()) for file in SOURCES}


def _shown(file: Path, line: int = 0) -> str:
    return f"{file.relative_to(ROOT)}:{line}"


def _functions() -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for file, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield file, node


def _imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [node.module or ""]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def _room(file: Path) -> str:
    """`ppgen.plan` of generate/ppgen/plan/plan.py; the package itself of a module that lies in no room."""
    name, folder = next((n, f) for n, f in PACKAGES.items() if f in file.parents)
    inner = file.relative_to(folder).parts
    return f"{name}.{inner[0]}" if len(inner) > 1 else name


ROOMS = {f"{name}.{p.parent.name}" for name, folder in PACKAGES.items() for p in folder.glob("*/__init__.py")}


def test_files_are_short() -> None:
    lines = {file: len(file.read_text().splitlines()) for file in FILES}
    assert {_shown(f): n for f, n in lines.items() if n > MOST_LINES} == {}
    assert statistics.median(lines.values()) <= MOST_MEDIAN
    assert statistics.median(lines[file] for file in SOURCES) <= MOST_MEDIAN


def test_folders_hold_few_modules() -> None:
    count: dict[str, int] = defaultdict(int)
    for file in FILES:
        count[str(file.parent.relative_to(ROOT))] += 1
    assert {folder: n for folder, n in count.items() if n > MOST_MODULES} == {}


def test_no_ten_lines_stand_twice() -> None:
    seen: dict[bytes, str] = {}
    found = []
    for file in FILES:
        numbered = [(i, line.strip()) for i, line in enumerate(file.read_text().splitlines(), 1)]
        numbered = [
            (i, line) for i, line in numbered if line and not line.startswith(("import ", "from ", "#"))
        ]
        for start in range(len(numbered) - MOST_EQUAL):
            window = numbered[start : start + MOST_EQUAL + 1]
            digest = hashlib.sha1("\n".join(line for _, line in window).encode()).digest()
            here = _shown(file, window[0][0])
            if digest in seen:
                found.append(f"{here} ~ {seen[digest]}")
            seen.setdefault(digest, here)
    assert found == []


def test_rooms_say_what_they_are_for() -> None:
    assert len(ROOMS) >= 20
    for file in SOURCES:
        if file.name == "__init__.py":
            assert ast.get_docstring(TREES[file]), f"{_shown(file)} has no docstring"


def test_other_rooms_are_entered_by_the_front_door() -> None:
    """Across rooms only the names that a room's `__init__` exports are imported."""
    found = [
        f"{_shown(file, node.lineno)} imports {name}"
        for file, tree in TREES.items()
        for node in ast.walk(tree)
        for name in _imports(node)
        for room in [".".join(name.split(".")[:2])]
        if room in ROOMS and room != _room(file) and name not in ROOMS
    ]
    assert found == []


def test_imports_inside_functions_give_their_reason() -> None:
    """Only heavy or optional packages are imported late, each with a comment on its line; commands import their work late."""
    found = []
    for file, function in _functions():
        lines = file.read_text().splitlines()
        for node in ast.walk(function):
            for name in _imports(node):
                own = name.split(".")[0] in PACKAGES
                reason = "#" in lines[node.lineno - 1]  # type: ignore[attr-defined]
                if not reason or (own and _room(file).split(".")[-1] != "cli" and file.stem != "cli"):
                    found.append(f"{_shown(file, node.lineno)} imports {name}")  # type: ignore[attr-defined]
    assert found == []


def test_functions_take_few_positional_arguments() -> None:
    found = [
        f"{_shown(file, node.lineno)} {node.name}"
        for file, node in _functions()
        if len([a for a in (*node.args.posonlyargs, *node.args.args) if a.arg not in ("self", "cls")])
        > MOST_POSITIONAL
    ]
    assert found == []


def _lint_imports(tree: Path) -> int:
    paths = os.pathsep.join(str(tree / top) for top in TOPS)
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True).returncode


@pytest.mark.parametrize("low", ["core/ppcore/seeds.py", "generate/ppgen/sources/licences.py"])
def test_the_contract_holds_and_an_upward_import_breaks_it(low: str, tmp_path: Path) -> None:
    for top in TOPS:
        shutil.copytree(
            ROOT / top, tmp_path / top, ignore=shutil.ignore_patterns("*.safetensors", "__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert _lint_imports(tmp_path) == 0
    with (tmp_path / low).open("a") as handle:
        handle.write("\nfrom ppgen.engines import base as _base\n")
    assert _lint_imports(tmp_path) == 1
