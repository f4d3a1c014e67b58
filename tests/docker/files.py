"""The files below docker/, and compose.yaml as Compose reads it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

DOCKER = Path(__file__).parents[2] / "docker"
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def tool(name: str) -> str:
    """A program of the environment that the tests run in."""
    return str(Path(sys.executable).parent / name)


def passes(*command: object) -> None:
    """Assert that a checker is content."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def fails(*command: object) -> str:
    """Assert that a checker objects; what it said."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode != 0
    return done.stdout + done.stderr


def interpolated(text: str, values: Mapping[str, str]) -> str:
    """`${NAME:-default}` and `${NAME:?reason}` as Compose fills them in. Raises KeyError for a name that has to be given."""

    def fill(found: re.Match[str]) -> str:
        name, sign, default = found.groups()
        return values.get(name) or default if sign == "-" else values[name]

    return _VARIABLE.sub(fill, text)


def services(values: Mapping[str, str]) -> dict[str, Any]:
    """Name -> service of compose.yaml."""
    content = yaml.safe_load(interpolated((DOCKER / "compose.yaml").read_text(), values))
    found: dict[str, Any] = content["services"]
    return found
