"""A recipe: the YAML description of an experiment, checked before anything runs."""

from ppflow.recipe.load import load_recipe, named_recipes
from ppflow.recipe.recipe import Recipe, Stage

__all__ = ["Recipe", "Stage", "load_recipe", "named_recipes"]
