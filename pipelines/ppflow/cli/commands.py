"""`ppflow`: run a named experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ppcore.console import run_app
from ppcore.program import new_app

app = new_app("ppflow", "Run a named experiment.")


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="A recipe's name (see `ppflow list`) or a YAML file.")],
    out: Annotated[Path | None, typer.Option(help="Directory of results [default: runs/<recipe>].")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Jobs at a time [default: one a core].")] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Run with seeds 0 to N - 1 instead of the recipe's.")
    ] = None,
) -> None:
    """Run every stage of a recipe, print its table, write results.csv and report.html.

    Finished stages are found again: after an interruption the same command resumes.
    """
    from ppflow.cli.experiment import run_experiment  # loads numpy and torch: --help must answer at once

    run_experiment(recipe, out, workers=workers, seeds=seeds)


@app.command("list")
def list_recipes() -> None:
    """The recipes that come with the package."""
    from ppflow.recipe import load_recipe, named_recipes  # loads pydantic: --help must answer at once

    for name in named_recipes():
        print(f"{name:12} {load_recipe(name).title}")


def main() -> None:
    """Entry point of the `ppflow` command."""
    run_app(app)
