"""A recipe in words."""

from __future__ import annotations

from typing import Any

from ppflow.recipe import Choices, Stage, load_recipe


def print_recipe(name: str, settings: dict[str, Any], scale: str | None) -> None:
    """Print parameters, grid, rows and stages of a recipe, the stages as at the first point of its grid."""
    recipe = load_recipe(name, Choices(settings, scale))
    first = recipe.cells[0]
    print(f"{recipe.title}\nseeds: {', '.join(map(str, recipe.seeds))}")
    for parameter, value in recipe.parameters.items():
        kind = "axis" if parameter in first.values else "parameter"
        shown = ", ".join(map(str, value)) if kind == "axis" else value
        print(f"{kind} {parameter}: {shown}")
    print(
        f"{len(recipe.rows)} rows at {len(recipe.cells)} point{'s' if len(recipe.cells) > 1 else ''} of the grid:"
    )
    for label, row in recipe.rows.items():
        print(f"  {label}{' (compared with)' if label in recipe.compare else ''}: stage {row}")
    print(f"stages{' at ' + first.group if first.group else ''}:")
    for stage in first.stages.values():
        print(f"  {_stage_text(stage)}")
    for note in recipe.notes:
        print(note)


def _stage_text(stage: Stage) -> str:
    seeds = ", a run a seed" if stage.per_seed else ""
    settings = "".join(f"\n      {key}: {value}" for key, value in stage.settings.items())
    return f"{stage.name} ({stage.kind}{seeds}){settings}"
