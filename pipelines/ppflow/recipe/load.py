"""Recipes by name or from a YAML file."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from ppcore.errors import UserError
from ppflow.recipe.parameters import Choices
from ppflow.recipe.parse import parse_recipe
from ppflow.recipe.recipe import Recipe


def named_recipes() -> list[str]:
    """Recipes that come with the package."""
    return sorted(
        p.name.removesuffix(".yaml")
        for p in files("ppflow").joinpath("recipes").iterdir()
        if p.name.endswith(".yaml")
    )


def load_recipe(name_or_file: str, choices: Choices | None = None) -> Recipe:
    """A recipe by name or from a YAML file, with what the command line says of it.

    Raises:
        UserError: no such recipe, or it does not make sense; the message says where.
    """
    text = recipe_text(name_or_file)
    try:
        content: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(
            f"recipe {name_or_file} is not valid YAML ({' '.join(str(error).split())})"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"recipe {name_or_file} is not a mapping; compare it with the recipe demo")
    return parse_recipe(content, Path(name_or_file).stem, choices)


def recipe_text(name_or_file: str) -> str:
    """The YAML of a recipe as it stands in its file. Raises UserError where there is none."""
    if name_or_file in named_recipes():
        return files("ppflow").joinpath(f"recipes/{name_or_file}.yaml").read_text()
    try:
        return Path(name_or_file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        if Path(name_or_file).exists():
            raise UserError(f"recipe {name_or_file} cannot be read ({error}); give a YAML file") from error
        raise UserError(
            f"unknown recipe {name_or_file!r}; expected one of {', '.join(named_recipes())}, or a YAML file"
        ) from error
