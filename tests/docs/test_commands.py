"""Runs every command and every Python block of the documentation, page by page in an empty directory, with small sizes.

A block that needs something this machine lacks (a cluster, weights) is only parsed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import commands
import pytest
from commands import LANGUAGES, PAGES, PROGRAMS, REASONS, ROOT, Block

QUICK = Path(__file__).parent / "quick.py"
GIVEN = {"runs/synth-letters": "synth", "runs/pseudo-letters-digits": "pseudo"}
RUN = [page for page in PAGES if any(not block.reason for block in commands.blocks(page))]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment variables with a PATH in which `ppgen`, `pptrain`, `ppflow` and `python` start without delay."""
    folder = tmp_path_factory.mktemp("bin")
    for name in (*PROGRAMS, "python"):
        (folder / name).write_text(
            f'#!/bin/sh\nexec "{sys.executable}" -SE "{QUICK}" call "{folder}/socket" {name} "$@"\n'
        )
        (folder / name).chmod(0o755)
    serve = [sys.executable, QUICK, "serve", folder / "socket"]
    files = {
        **os.environ,
        "FSSPEC_FILE_AUTO_MKDIR": "true",
    }  # local:// stands in for s3://, which has no folders
    server = subprocess.Popen(serve, env=files, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    yield {
        **os.environ,
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    server.kill()
    server.wait()


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_runs(page: Path, programs: dict[str, str], tmp_path: Path) -> None:
    for name in commands.given(page):
        shutil.copytree(ROOT / "tests/golden/version-2" / GIVEN[name], tmp_path / name)
    for block in commands.blocks(page):
        if block.reason:
            continue
        shell = ["bash", "-euo", "pipefail", "-c", block.tiny]
        done = subprocess.run(shell, cwd=tmp_path, env=programs, capture_output=True, text=True)
        assert done.returncode == 0, (
            f"{block.place}\n{block.tiny}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_parses(page: Path) -> None:
    for block in commands.blocks(page):
        assert not block.reason or block.reason in REASONS, f"{block.place}: unknown reason {block.reason!r}"
        if block.reason:
            commands.require_read(block)


def test_commands_are_in_bash_blocks() -> None:
    for page in PAGES:
        for _, head, text, line in commands.fences(page):
            assert head.split(" ")[0] in LANGUAGES, f"{page}:{line} is a block of {head!r}"
            if head == "text":
                assert not text.lstrip().startswith(
                    tuple(f"{name} " for name in (*PROGRAMS, "$", "make", "pip"))
                )


WRONG = """\
ppgen synth --no-such-option 3
ppgen synth --per-class many
ls && ppgen verify
ppgen syntt
ray exec 'ppgen push x --y'
if true; then ppgen sources
python docs/examples/no_such.py
"""


@pytest.mark.parametrize("text", WRONG.splitlines())
def test_wrong_commands_are_refused(text: str) -> None:
    with pytest.raises(Exception, match=r"."):
        commands.require_read(Block("here", text, text, "cluster"))
