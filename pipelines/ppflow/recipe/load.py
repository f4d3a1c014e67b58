"""Recipes by name or from a YAML file."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import yaml

from ppcore.errors import UserError
from ppflow.recipe.parse import parse_recipe
from ppflow.recipe.recipe import Recipe


def named_recipes() -> list[str]:
    """Recipes that come with the package."""
    return sorted(
        p.name.removesuffix(".yaml")
        for p in files("ppflow").joinpath("recipes").iterdir()
        if p.name.endswith(".yaml")
    )


def load_recipe(name_or_file: str) -> Recipe:
    """A recipe by name or from a YAML file.

    Raises:
        UserError: no such recipe, or it does not make sense; the message says where.
    """
    if name_or_file in named_recipes():
        text = files("ppflow").joinpath(f"recipes/{name_or_file}.yaml").read_text()
    elif Path(name_or_file).is_file():
        text = Path(name_or_file).read_text()
    else:
        raise UserError(
            f"unknown recipe {name_or_file!r}; expected one of {', '.join(named_recipes())}, or a YAML file"
        )
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(
            f"recipe {name_or_file} is not valid YAML ({' '.join(str(error).split())})"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"recipe {name_or_file} is not a mapping; compare it with the recipe demo")
    return parse_recipe(content, Path(name_or_file).stem)
