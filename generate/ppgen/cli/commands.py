"""The commands of `ppgen` that make shards, or say what making them would cost."""

from __future__ import annotations

import shlex
import sys
from fnmatch import fnmatchcase

import typer

from ppcore.console import print_table, printable, run_app
from ppcore.program import App, new_app
from ppgen.cli.flatten import flatten
from ppgen.cli.sharing import sharing
from ppgen.cli.tools import tools
from ppgen.options import DEFAULT_SOURCE, AllowLicence, EstimateOptions, PseudoOptions, SynthOptions

app = new_app("ppgen", "Sample a pre-trained conditional generator into shards.")
planner = App("What a synth or pseudo command would make and cost. Writes nothing.")


def generate(options: SynthOptions | PseudoOptions) -> int:
    """Do what `ppgen synth` or `ppgen pseudo` does with these options.

    Returns:
        The command's exit status: 0, or 1 when shards failed.

    Raises:
        UserError: the request makes no sense, its source or target cannot be had, or the directory is not its own.
    """
    from ppgen.cli import generation  # loads torch: --help must answer at once

    return generation.run(generation.prepare(options))


def _say_next(command: str) -> None:
    print(f"next: {printable(command)}", file=sys.stderr)


def print_estimate(options: SynthOptions | PseudoOptions, estimate: EstimateOptions) -> None:
    """Say what :func:`generate` would make and cost; writes nothing."""
    from ppgen.cli import generation  # loads torch: --help must answer at once

    print(generation.estimate(generation.prepare(options), estimate).describe())


@app.command()
@flatten
def synth(options: SynthOptions) -> None:
    """Synthetic images of source classes: the data of pseudo pre-training."""
    _exit(generate(options))
    if elsewhere := _elsewhere(options.shards.out, "synth"):
        _say_next(shlex.join(["pptrain", "run", "--shards", elsewhere]))
        return
    _say_next(
        f"ppgen pseudo --source {shlex.quote(options.source)} --target TARGET, then pptrain run --target TARGET"
    )


@app.command()
@flatten
def pseudo(options: PseudoOptions) -> None:
    """Images conditioned on soft labels of target images: the unlabelled data of P-SSL (10 for every image unless told otherwise)."""
    _exit(generate(options))
    command = ["pptrain", "run", "--target", options.target]
    if options.labels_per_class:  # train on the images that the samples were made for
        command += ["--labels-per-class", str(options.labels_per_class)]
        seed = options.shards.seed if options.label_seed is None else options.label_seed
        command += ["--seed", str(seed)] if seed else []
    elsewhere = _elsewhere(options.shards.out, "pseudo")
    command += ["--unlabeled", elsewhere] if elsewhere else []
    _say_next(shlex.join(command))


def _elsewhere(out: str | None, kind: str) -> str | None:
    """The directory that was given, where pptrain does not find it by its name."""
    from ppcore.shards import default_directory  # loads pyarrow: --help must answer at once

    return out if out and not fnmatchcase(out.rstrip("/"), default_directory(kind, "*")) else None


@planner.command("synth", help=synth.__doc__)
@flatten
def plan_synth(options: SynthOptions, estimate: EstimateOptions) -> None:
    """The estimate of `ppgen synth`."""
    print_estimate(options, estimate)


@planner.command("pseudo", help=pseudo.__doc__)
@flatten
def plan_pseudo(options: PseudoOptions, estimate: EstimateOptions) -> None:
    """The estimate of `ppgen pseudo`."""
    print_estimate(options, estimate)


@app.command()
def sources(allow_licence: AllowLicence = None) -> None:
    """List the known kits: size, licence, and what an image costs at the defaults."""
    from ppgen.sources import source_rows  # loads torch: --help must answer at once

    head = (
        "name",
        "family",
        "pixels",
        "classes",
        "licence",
        "commercial",
        "parameters",
        "GFLOP/image",
        "what it is",
    )
    lines = [head]
    for row in source_rows(tuple(allow_licence or ())):
        size = f"{row.resolution}x{row.resolution}x{row.channels}"
        millions = "?" if row.parameters is None else f"{row.parameters / 1e6:.1f} M"
        work = "?" if row.gflop is None else f"{row.gflop:,.1f}"
        use = "yes" if row.commercial else "no"
        name = f"{row.name} (default)" if row.name == DEFAULT_SOURCE else row.name
        lines.append(
            (name, row.family, size, str(row.classes), row.licence, use, millions, work, row.description)
        )
    print_table(lines)


app.add_typer(tools)
app.add_typer(sharing)
app.add_typer(planner, name="plan")


def main() -> None:
    """Entry point of the console command."""
    run_app(app)


def _exit(status: int) -> None:
    if status:
        raise typer.Exit(status)
