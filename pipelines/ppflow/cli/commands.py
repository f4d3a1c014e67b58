"""The command `ppflow`. Each command imports what it needs when it runs, so that `--help` answers at once."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import dropwhile
from pathlib import Path
from typing import Annotated, Any

import typer

from ppcore.console import parse_settings, printable_name, run_app
from ppcore.errors import UserError
from ppcore.program import EXPERTS, HOW_MUCH, MACHINES, WHAT, WHERE_TO, new_app, option
from ppcore.storage import Store
from ppflow.recipe import load_recipe, recipe_text


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


def write_new(target: str, arch: str, source: str | None, out: Path) -> None:
    """Write a recipe for a target: the recipe `best`, or what takes its place, with other values of its parameters.

    Raises:
        UserError: the target cannot be read, or the file exists.
    """
    if out.exists():
        raise UserError(f"{out} exists; choose another --out or remove it")
    from ppcore.targets import load_target  # imports torch, which `ppflow show` does not need
    from ppflow.cli.fitting import RECOMMENDED, fit

    images = load_target(target)
    parameters: dict[str, object] = {"target": target, "arch": arch, "source": source}
    base, chosen, notes = fit(RECOMMENDED, {**load_recipe(RECOMMENDED).parameters, **parameters})
    parameters |= chosen
    size = f"{len(images.classes)} classes, {len(images.train)} training and {len(images.test)} test images"
    lines = list(dropwhile(lambda line: line.startswith("#"), recipe_text(base).splitlines()))
    for number, line in enumerate(lines):
        match = re.fullmatch(r"(  (\w+): )(\S+)(.*)", line)
        if match and match[2] in parameters:
            lines[number] = f"{match[1]}{json.dumps(parameters.pop(match[2]))}{match[4]}"
    remarks = [
        f"# {target}: {size}. What each setting means: ppflow show {out}, and `pptrain run --help`.",
        "# All entries that a recipe can have, for editors: ppflow schema > recipe.schema.json",
    ]
    Store(out.parent).write_atomic(out.name, printable_name("\n".join([*remarks, *lines]) + "\n").encode())
    for note in notes:
        print(note)
    print(f"{out}: a recipe for {target} ({size})")
    print(f"next: ppflow run {out} --dry-run, then ppflow run {out}")


app = new_app("ppflow", "Run a named experiment.")

Recipe = Annotated[str, typer.Argument(help="Name of a recipe (`ppflow list` shows all) or a YAML file.")]
Parameters = Annotated[
    list[str] | None,
    option(
        EXPERTS,
        "NAME=VALUE for a parameter or an axis of the grid, or STAGE.SETTING=VALUE; repeatable. [default: the recipe's values]",
        "--param",
    ),
]
Scale = Annotated[
    str | None,
    option(
        HOW_MUCH,
        "Run another size of the experiment that the recipe defines, for example tiny. [default: full size]",
    ),
]
Results = Annotated[str, typer.Argument(help="Directory of results, or a results.csv.")]
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
        list[str] | None,
        option(
            WHAT, "Run only the rows with this label, * matches any text; repeatable. [default: all rows]"
        ),
    ] = None,
    target: Annotated[
        str | None, option(WHAT, "Your labelled images, same as --param target=SPEC. [default: the recipe's]")
    ] = None,
    arch: Annotated[
        str | None, option(WHAT, "Your network, same as --param arch=NAME. [default: the recipe's]")
    ] = None,
    source: Annotated[
        str | None,
        option(
            WHAT,
            "Source of pre-training, same as --param source=NAME: a kit, a generator or bank:DIR. [default: the recipe's]",
        ),
    ] = None,
    params: Parameters = None,
    scale: Scale = None,
    dry_run: Annotated[
        bool, option(HOW_MUCH, "Print what would be run, its size and its cost; write nothing.", "--dry-run")
    ] = False,
    engine: Annotated[str, option(MACHINES, "Where jobs run: local (this machine) or ray.")] = "local",
    address: Annotated[
        str | None,
        option(
            MACHINES,
            "With --engine ray: address of a running cluster, or auto. [default: start one on this machine]",
        ),
    ] = None,
) -> None:
    """Run every stage of a recipe, print its table, write results.csv and report.html.

    Finished stages are kept: after an interruption or a failure, run the same command again to resume.
    """
    if engine not in ENGINES:
        raise UserError(f"--engine is {engine!r}; expected {' or '.join(ENGINES)}")
    if address is not None and engine != "ray":
        raise UserError("--address needs --engine ray; add it, or leave --address out")
    parameters = _parse(params)
    named = {"target": target, "arch": arch, "source": source}
    parameters |= {name: value for name, value in named.items() if value is not None}
    from ppflow.cli import experiment

    options = experiment.RunOptions(out, jobs, seeds, rows or [], parameters, scale, engine, address)
    if dry_run:
        from ppflow.cli.dry_run import print_dry_run

        print_dry_run(recipe, options)
        return
    status = experiment.run_experiment(recipe, options)
    if status:
        raise typer.Exit(status)


@app.command("list")
def list_recipes() -> None:
    """List the recipes that come with the package."""
    from ppflow.recipe import load_recipe, named_recipes

    for name in named_recipes():
        print(f"{name:24} {load_recipe(name).title}")


@app.command()
def show(recipe: Recipe, *, params: Parameters = None, scale: Scale = None) -> None:
    """Print the parameters, grid, rows and stages of a recipe."""
    from ppflow.cli.commands import print_recipe

    print_recipe(recipe, _parse(params), scale)


@app.command()
def new(
    target: Annotated[
        str,
        typer.Argument(
            help="Your labelled images: an image folder, parquet, tars, or the name of a known target."
        ),
    ],
    *,
    arch: Annotated[
        str, option(WHAT, "Your network: module:callable, or the name of a network of pptrain.")
    ] = "mobile",
    source: Annotated[
        str | None,
        option(
            WHAT,
            "Source of pre-training: a kit, a generator or bank:DIR. [default: letters; none for photographs]",
        ),
    ] = None,
    out: Annotated[Path, option(WHERE_TO, "File to write.")] = Path("recipe.yaml"),
) -> None:
    """Write a recipe for your own images. Edit it, then run it."""
    from ppflow.cli.commands import write_new

    write_new(target, arch, source, out)


@app.command()
def schema() -> None:
    """Print the JSON schema of recipes, with which editors complete and check YAML."""
    from ppflow.recipe import recipe_schema

    print(recipe_schema())


@app.command()
def table(
    run: Results,
    *,
    form: Form = "markdown",
    compare: Annotated[
        list[str] | None,
        typer.Option(help="Row that the others are compared with; repeatable. [default: the recipe's]"),
    ] = None,
) -> None:
    """Print the table of a finished run again, in a format for papers and programs."""
    from ppflow.cli.experiment import print_table

    print_table(run, form, compare or [])


@app.command("compare")
def compare_runs(run_a: Results, run_b: Results, *, form: Form = "markdown") -> None:
    """Compare two runs: the rows that both have, RUN_B minus RUN_A, paired seed by seed."""
    from ppflow.cli.experiment import print_comparison

    print_comparison(run_a, run_b, form)


def _parse(params: list[str] | None) -> dict[str, Any]:
    return parse_settings(params or [], "labels=5", "--param")


def main() -> None:
    """Entry point of the `ppflow` command."""
    run_app(app)
