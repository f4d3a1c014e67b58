"""`ppflow show` prints a recipe, `ppflow new` writes one for a folder of images."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import dropwhile
from pathlib import Path
from typing import Any

from ppcore.errors import UserError
from ppcore.storage import Store
from ppflow.recipe import load_recipe, recipe_text

_BASE = "best"  # the recipe that `ppflow new` fills in
_SAMPLE = 20  # images that are read to find out whether a target has colour


def print_recipe(name: str, parameters: Mapping[str, Any], scale: str | None) -> None:
    """Print parameters, grid, rows and stages of a recipe, the stages as they are at the first point of the grid."""
    recipe = load_recipe(name, parameters, scale)
    first = recipe.cells[0]
    print(f"{recipe.title}\nseeds: {', '.join(map(str, recipe.seeds))}")
    for parameter, value in recipe.parameters.items():
        if parameter in first.values:
            print(f"axis {parameter}: {', '.join(map(str, value))}")
        else:
            print(f"parameter {parameter}: {value}")
    points = f"{len(recipe.cells)} point{'s' if len(recipe.cells) > 1 else ''} of the grid"
    print(f"{len(recipe.rows)} rows at {points}:")
    for label, row in recipe.rows.items():
        print(f"  {label}{' (compared with)' if label in recipe.compare else ''}: stage {row}")
    print(f"stages{' at ' + first.group if first.group else ''}:")
    for stage in first.stages.values():
        print(f"  {stage.name} ({stage.kind}{', one run for each seed' if stage.per_seed else ''})")
        for key, value in stage.settings.items():
            print(f"      {key}: {value}")
    for note in recipe.notes:
        print(note)


def write_new(target: str, arch: str, source: str, out: Path) -> None:
    """Write a recipe for a target: the recipe `best` with other values of its parameters.

    Raises:
        UserError: the target cannot be read, or the file exists.
    """
    if out.exists():
        raise UserError(f"{out} exists; choose another --out or remove it")
    from ppcore.targets import load_target  # imports torch, which `ppflow show` does not need

    images = load_target(target)
    sample = range(min(_SAMPLE, len(images.train)))
    channels = max(images.train.image(position).shape[2] for position in sample)
    parameters: dict[str, object] = {"target": target, "arch": arch, "source": source, "channels": channels}
    size = f"{len(images.classes)} classes, {len(images.train)} training and {len(images.test)} test images"
    lines = list(dropwhile(lambda line: line.startswith("#"), recipe_text(_BASE).splitlines()))
    for number, line in enumerate(lines):
        match = re.fullmatch(r"(  (\w+): )(\S+)(.*)", line)
        if match and match[2] in parameters:
            lines[number] = f"{match[1]}{json.dumps(parameters.pop(match[2]))}{match[4]}"
    assert not parameters, parameters
    remarks = [
        f"# {target}: {size}. What each setting means: ppflow show {out}, and `pptrain run --help`.",
        "# All entries that a recipe can have, for editors: ppflow schema > recipe.schema.json",
    ]
    Store(out.parent).write_atomic(out.name, ("\n".join([*remarks, *lines]) + "\n").encode())
    print(f"{out}: a recipe for {target} ({size})")
    print(f"next: ppflow run {out} --dry-run, then ppflow run {out}")
