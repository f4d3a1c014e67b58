"""A recipe: the YAML description of an experiment, checked before anything runs."""

from ppflow.recipe.recipe import Recipe, Stage, load_recipe, named_recipes

__all__ = ["Recipe", "Stage", "load_recipe", "named_recipes"]
