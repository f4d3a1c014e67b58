"""A recipe for somebody's own folder: the recipe `best` with its parameters filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ppflow.recipe.load import recipe_text

_BASE = "best"


def new_recipe(parameters: Mapping[str, Any], remarks: list[str]) -> str:
    """The YAML text of `best` with other values of its parameters, each in its line.

    Args:
        parameters: of :file:`recipes/best.yaml`.
        remarks: comments for the top.
    """
    lines = recipe_text(_BASE).splitlines()
    start = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    for name, value in parameters.items():
        pattern = re.compile(rf"(  {name}: )(\S+)(.*)")
        number = next(n for n, line in enumerate(lines) if pattern.fullmatch(line))
        lines[number] = pattern.sub(lambda match: f"{match[1]}{json.dumps(value)}{match[3]}", lines[number])  # noqa: B023
    return "\n".join([*(f"# {remark}" for remark in remarks), *lines[start:]]) + "\n"
