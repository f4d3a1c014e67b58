"""A recipe: the YAML description of an experiment, checked before anything runs."""

from ppflow.recipe.load import load_recipe, named_recipes, parse_recipe, recipe_schema, recipe_text
from ppflow.recipe.recipe import MODELS, Cell, Rates, Recipe, Resources, Stage
