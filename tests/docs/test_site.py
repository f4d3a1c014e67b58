"""The documentation builds as a site without warnings, contains every page, and has no dead links."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest
from commands import PAGES

ROOT = Path(__file__).parents[2]


def _build(tree: Path, site: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_the_site_builds_strictly(tmp_path: Path) -> None:
    done = _build(ROOT, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    commands = (site / "reference/ppgen/index.html").read_text()
    assert 'id="ppgen-plan-synth"' in commands
    assert "--price-per-hour" in commands
    assert "runs/&lt;recipe&gt;" in (site / "reference/ppflow/index.html").read_text()
    settings = (site / "reference/settings/index.html").read_text()
    assert "optim.batch_size" in settings
    assert "averaged weights" in settings
    assert "<td></td>" not in settings  # every setting has a description
    assert "labelled_soft" in (site / "reference/methods/index.html").read_text()
    assert "dit-xl-2-256" in (site / "reference/catalogue/index.html").read_text()
    assert "state_after" in (site / "reference/python/index.html").read_text()
    trainer = re.sub(r"<[^>]+>", "", (site / "howto/trainer/index.html").read_text())
    for example in (ROOT / "docs/examples").glob("*.py"):
        last = example.read_text().splitlines()[-1].strip()
        assert last in unescape(trainer), f"{example.name} is not shown"
    assert "KubeRay" in (site / "howto/machines/index.html").read_text()
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert not re.search(r'"https?://[^"]+\.(?:js|css)', text), f"{page} fetches something"
        shown = unescape(re.sub(r"<[^>]+>", "", text))
        assert not re.search(r"--\s*8\s*<", shown), f"{page} shows an include marker instead of the file"
    assert not list(site.rglob("*.py"))


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.stem)
def test_include_markers_are_whole(page: Path) -> None:
    """A code formatter once changed `--8<-- "file"` to `--8 < --"file"`, which includes nothing."""
    for line in page.read_text().splitlines():
        if re.match(r"\s*--\s*8", line):
            assert re.fullmatch(r' *--8<--(?: "[\w./-]+")?', line), line


def test_the_formatter_leaves_pages_alone() -> None:
    page = '# A page\n\n```python\n--8<-- "docs/examples/plain_pytorch.py"\n```\n'
    command = [
        sys.executable,
        "-m",
        "ruff",
        "format",
        "--force-exclude",
        "--stdin-filename",
        "docs/page.md",
        "-",
    ]
    done = subprocess.run(command, cwd=ROOT, input=page, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, page), done.stderr


@pytest.mark.slow
def test_a_dead_link_fails_the_build(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "docs").mkdir(parents=True)
    (tree / "docs/index.md").write_text("# One\n\n[to nowhere](index.md#nothing)\n")
    validation = (ROOT / "mkdocs.yml").read_text().split("validation:")[1].split("nav:")[0]
    (tree / "mkdocs.yml").write_text(f"site_name: x\nvalidation:{validation}")
    done = _build(tree, tmp_path / "site")
    assert done.returncode != 0
    assert "nothing" in done.stderr


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docker/README.md", "ARCHITECTURE.md"])
def test_links_of_pages_outside_docs_lead_to_files(name: str) -> None:
    page = ROOT / name
    for link in re.findall(r"\]\((?!\w+:)([^)#\s]+)", page.read_text()):
        assert (page.parent / link).exists(), link


NAMED = re.compile(r"`((?:core|generate|train|pipelines|tests|tools|benchmarks|docker|docs)/[\w./-]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page: Path) -> None:
    for name in NAMED.findall(page.read_text()):
        assert "NAME" in name or (ROOT / name).exists(), f"{page} names {name}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
