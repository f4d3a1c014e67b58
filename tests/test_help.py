"""What every `--help` of the three programs promises: every default shown, no option name cut, at most 80 columns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from ppcore.program import GROUPS
from ppflow.cli import app as ppflow
from ppgen.cli import app as ppgen
from pptrain.cli import app as pptrain

APPS = {"ppgen": ppgen, "pptrain": pptrain, "ppflow": ppflow}


def _commands(path: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands((*path, name), inner)


COMMANDS = dict(pair for name, app in APPS.items() for pair in _commands((name,), get_command(app)))


def _help(path: tuple[str, ...]) -> str:
    result = CliRunner().invoke(
        APPS[path[0]], [*path[1:], "--help"], prog_name=path[0], env={"COLUMNS": "80", "TERM": "dumb"}
    )
    assert result.exit_code == 0
    return str(result.output)


def _entries(page: str) -> dict[str, str]:
    """First word of an entry (`--shards`, `recipe`) -> its text in one line, with the name and type before it."""
    entries: dict[str, str] = {}
    name = ""
    for line in page.splitlines():
        if start := re.match(r"  (\S+)", line):
            name = start[1].removesuffix("...")
            entries[name] = ""
        if line.startswith("  "):
            entries[name] += f" {line.strip()}"
    return entries


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_shows_every_default_and_fits_80_columns(path: tuple[str, ...]) -> None:
    page = _help(path)
    entries = _entries(page)
    for line in page.splitlines():
        assert len(line) <= 80
        assert "…" not in line
        assert not line.rstrip().endswith(" .")
    for parameter in COMMANDS[path].params:
        names = [*parameter.opts, *parameter.secondary_opts]
        assert any(name in entries for name in names), f"{names[0]} is not in the help, or its name is cut"
        if parameter.is_eager or not parameter.expose_value:  # --version and completion act at once
            continue
        text = entries[next(name for name in names if name in entries)]
        assert re.search(r"\. \[(required|default: [^\]]+)\]$", text), f"no default at the end of: {text}"
        assert text.count("default: ") + text.count("[required]") == 1, text


@pytest.mark.parametrize("path", [("ppgen", "synth"), ("pptrain", "run"), ("ppflow", "run")], ids=" ".join)
def test_options_stand_in_groups(path: tuple[str, ...]) -> None:
    groups = [line[:-1] for line in _help(path).splitlines() if line[:-1] in GROUPS]
    assert len(groups) >= 4
    assert groups == [group for group in GROUPS if group in groups]


@pytest.mark.parametrize("program", APPS)
def test_the_programs_list_every_command_with_its_whole_first_paragraph(program: str) -> None:
    entries = _entries(_help((program,)))
    for path, command in COMMANDS.items():
        if len(path) == 2 and path[0] == program:
            first = " ".join(command.help.split("\n\n")[0].split())
            assert entries[path[1]].replace("- ", "-").endswith(first.replace("- ", "-"))
