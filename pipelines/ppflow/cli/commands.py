"""`ppflow`: run a named experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ppcore.console import parse_settings, run_app
from ppcore.errors import UserError
from ppcore.program import EXPERTS, HOW_MUCH, MACHINES, WHAT, WHERE_TO, new_app, option

app = new_app("ppflow", "Run a named experiment.")

Recipe = Annotated[str, typer.Argument(help="A recipe's name (see `ppflow list`) or a YAML file.")]
Settings = Annotated[
    list[str] | None,
    option(
        EXPERTS,
        "NAME=VALUE of a parameter or a grid's axis, or STAGE.SETTING=VALUE; repeatable. [default: as the recipe says]",
        "--set",
    ),
]
Scale = Annotated[
    str | None, option(HOW_MUCH, "Another size that the recipe has, such as tiny. [default: full size]")
]
Form = Annotated[str, typer.Option("--format", help="markdown, csv, latex or json.")]
ENGINES = ("local", "ray")


@app.command()
def run(
    recipe: Recipe,
    *,
    out: Annotated[Path | None, option(WHERE_TO, "Directory of results. [default: runs/<recipe>]")] = None,
    jobs: Annotated[
        int | None,
        option(
            MACHINES,
            "Jobs to run in parallel. [default: the number of CPU cores; Ray: all that have room]",
            min=1,
        ),
    ] = None,
    seeds: Annotated[
        int | None, option(HOW_MUCH, "Run with seeds 0 to N - 1. [default: the recipe's seeds]", min=1)
    ] = None,
    rows: Annotated[
        list[str] | None, option(WHAT, "Only this row of the table, * for any; repeatable. [default: all]")
    ] = None,
    target: Annotated[
        str | None, option(WHAT, "Your labelled images; short for --set target=.... [default: the recipe's]")
    ] = None,
    arch: Annotated[
        str | None, option(WHAT, "Your network; short for --set arch=.... [default: the recipe's]")
    ] = None,
    settings: Settings = None,
    scale: Scale = None,
    dry_run: Annotated[
        bool, option(HOW_MUCH, "Show what would be run, its size and its cost; write nothing.", "--dry-run")
    ] = False,
    engine: Annotated[str, option(MACHINES, "Where jobs run: local (this machine) or ray.")] = "local",
    address: Annotated[
        str | None,
        option(MACHINES, "Ray: address of a running cluster, or auto. [default: start a local one]"),
    ] = None,
) -> None:
    """Run every stage of a recipe, print its table, write results.csv and report.html.

    Finished stages are found again: after an interruption or a failure the same command goes on.
    """
    if engine not in ENGINES:
        raise UserError(f"unknown engine {engine!r}; expected {' or '.join(ENGINES)}")
    if address is not None and engine != "ray":
        raise UserError("--address is an option of Ray; add --engine ray or leave it out")
    chosen = parse_settings(settings or [], "labels=5")
    chosen |= {name: value for name, value in (("target", target), ("arch", arch)) if value is not None}
    from ppflow.cli import experiment  # loads numpy and scipy: --help must answer at once

    options = experiment.RunOptions(out, jobs, seeds, rows or [], chosen, scale, engine, address)
    if dry_run:
        from ppflow.cli.dry_run import print_dry_run  # loads torch, likewise

        print_dry_run(recipe, options)
        return
    status = experiment.run_experiment(recipe, options)
    if status:
        raise typer.Exit(status)


@app.command("list")
def list_recipes() -> None:
    """The recipes that come with the package."""
    from ppflow.recipe import load_recipe, named_recipes  # loads pydantic: --help must answer at once

    for name in named_recipes():
        print(f"{name:20} {load_recipe(name).title}")


@app.command()
def show(recipe: Recipe, *, settings: Settings = None, scale: Scale = None) -> None:
    """What a recipe is: parameters, grid, stages with their settings, rows."""
    from ppflow.cli.show import print_recipe  # loads pydantic: --help must answer at once

    print_recipe(recipe, parse_settings(settings or [], "labels=5"), scale)


@app.command()
def new(
    target: Annotated[
        str, typer.Argument(help="Your labelled images: a folder, parquet, tars, or a known target.")
    ],
    *,
    arch: Annotated[str, typer.Option(help="Your network: module:callable, or a known one.")] = "mobile",
    source: Annotated[str, typer.Option(help="Generator to learn from; see ppgen sources.")] = "letters",
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("recipe.yaml"),
) -> None:
    """Write a recipe for your own images, to be edited and run."""
    from ppflow.cli.new import write_new  # loads torch: --help must answer at once

    write_new(target, arch, source, out)


@app.command()
def schema() -> None:
    """The JSON schema of recipes, for editors that complete and check YAML."""
    from ppflow.recipe import recipe_schema  # loads pydantic: --help must answer at once

    print(recipe_schema())


@app.command()
def table(
    run: Annotated[str, typer.Argument(help="Directory of results, or a results.csv.")],
    *,
    form: Form = "markdown",
    compare: Annotated[
        list[str] | None,
        typer.Option(help="Row that the others are compared with; repeatable. [default: as recorded]"),
    ] = None,
) -> None:
    """Print the table of a finished run again, in a format for papers and programs."""
    from ppflow.cli.tables import print_table  # loads numpy and scipy: --help must answer at once

    print_table(run, form, compare or [])


@app.command("compare")
def compare_runs(
    run_a: Annotated[str, typer.Argument(help="Directory of results, or a results.csv.")],
    run_b: Annotated[str, typer.Argument(help="Another.")],
    *,
    form: Form = "markdown",
) -> None:
    """The rows that two runs have in common, the second against the first, seed by seed."""
    from ppflow.cli.tables import print_comparison  # loads numpy and scipy: --help must answer at once

    print_comparison(run_a, run_b, form)


def main() -> None:
    """Entry point of the `ppflow` command."""
    run_app(app)
