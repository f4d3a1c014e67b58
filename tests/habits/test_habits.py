"""What a visitor finds at the top of the repository: it fits its schemas and says today's version."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ppcore import SHARD_FORMAT, __version__

ROOT = Path(__file__).parents[2]
CHECKED = {
    ".github/workflows/ci.yaml": "vendor.github-workflows",
    "CITATION.cff": "vendor.citation-file-format",
    ".github/ISSUE_TEMPLATE/bug.yaml": "vendor.github-issue-forms",
    ".github/ISSUE_TEMPLATE/wish.yaml": "vendor.github-issue-forms",
    ".github/ISSUE_TEMPLATE/config.yml": "vendor.github-issue-config",
}


def _check(path: Path, schema: str) -> int:
    program = Path(sys.executable).parent / "check-jsonschema"
    return subprocess.run([program, "--builtin-schema", schema, path], capture_output=True).returncode


@pytest.mark.parametrize("name", CHECKED)
def test_files_fit_their_published_schemas(name: str, tmp_path: Path) -> None:
    assert _check(ROOT / name, CHECKED[name]) == 0
    wrong = tmp_path / Path(name).name
    content = yaml.safe_load((ROOT / name).read_text())
    wrong.write_text(
        yaml.safe_dump(
            {"jobs": 1} if "jobs" in content else {**content, "authors": 1, "body": 1, "contact_links": 1}
        )
    )
    assert _check(wrong, CHECKED[name]) != 0


def test_hooks_are_local_and_their_programs_are_the_makefiles() -> None:
    hooks = [
        hook
        for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
        for hook in repo["hooks"]
    ]
    make = (ROOT / "Makefile").read_text()
    for hook in hooks:
        program = hook["entry"].split()[0].removeprefix(".venv/bin/")
        assert f"$(BIN)/{program}" in make, hook["id"]


def test_versions_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"\n## {__version__}\n" in changelog or "\n## Unreleased\n" in changelog
    assert f"Shard format {SHARD_FORMAT} " in changelog


def _release() -> Any:
    spec = importlib.util.spec_from_file_location("release", ROOT / "scripts/release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_notes_are_the_versions_section() -> None:
    release = _release()
    text = "# C\n\n## Unreleased\n\n## 1.2.0\n\n- new\n### Fixed\n- old\n\n## 1.1.0\n\n- x\n"
    assert release.notes_of(text, "1.2.0") == "- new\n### Fixed\n- old\n"
    assert release.version_of('a = 1\n__version__ = "1.2.0"\n') == "1.2.0"
    for wrong in (
        text.replace("- new", "").replace("### Fixed\n- old", ""),
        text.replace("Unreleased\n", "Unreleased\n\n- more\n"),
    ):
        with pytest.raises(release.ReleaseError, match=r"CHANGELOG\.md"):
            release.notes_of(wrong, "1.2.0")
    with pytest.raises(release.ReleaseError, match="__version__"):
        release.version_of('__version__ = "1.2"\n')


def test_a_release_is_built_twice_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = _release()
    builds = iter([{"a.whl": b"1"}, {"a.whl": b"1"}, {"a.whl": b"1"}, {"a.whl": b"2"}])
    monkeypatch.setattr(release, "build", lambda out, epoch: next(builds))
    monkeypatch.setattr(release, "_git", lambda *words: "1750000000" if words[0] == "log" else " M README.md")
    assert release.make(tmp_path / "dist", check=True) == __version__
    assert (tmp_path / "dist/SHA256SUMS").read_text().endswith("  a.whl\n")
    with pytest.raises(release.ReleaseError, match="differ"):
        release.make(tmp_path / "dist", check=True)
    monkeypatch.setattr(release, "notes_of", lambda *_: "notes")
    with pytest.raises(release.ReleaseError, match="not committed"):
        release.make(tmp_path / "dist", check=False)
