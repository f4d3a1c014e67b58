"""The commands of `ppgen` and their options. Nothing here loads torch, so that --help answers at once."""

from __future__ import annotations

import shlex
import sys
from fnmatch import fnmatchcase
from typing import Annotated

import typer

from ppcore.console import print_table, printable, run_app
from ppcore.errors import UserError, require_positive
from ppcore.program import WHERE_TO, App, new_app, option
from ppgen.cli.flatten import flatten
from ppgen.options import (
    DEFAULT_SOURCE,
    AllowLicence,
    ClassifierName,
    Device,
    Directory,
    EstimateOptions,
    ExtendOptions,
    MovedSource,
    PlannedOptions,
    Price,
    PseudoOptions,
    SynthOptions,
    TrustCode,
    require_price,
)

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

    return generation.generate(options)


def _say_next(command: str) -> None:
    print(f"next: {printable(command)}", file=sys.stderr)


def print_estimate(options: SynthOptions | PseudoOptions, estimate: EstimateOptions) -> None:
    """Say what :func:`generate` would make and cost; writes nothing."""
    from ppgen.cli import generation  # loads torch: --help must answer at once

    print(generation.estimate(options, estimate).describe())


@app.command()
@flatten
def synth(options: SynthOptions) -> None:
    """Synthetic images of source classes: the data of pseudo pre-training."""
    _exit(generate(options))
    if options.shards.part is not None:
        return
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
    if options.shards.part is not None:
        return
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


@app.command()
@flatten
def extend(directory: Directory, options: ExtendOptions) -> None:
    """Raise the totals of a directory; no committed sample is touched. Interrupted, the same command goes on."""
    from ppgen.cli import maintenance  # loads torch: --help must answer at once

    _exit(maintenance.extend(directory, options))


@app.command()
def gather(
    directories: Annotated[
        list[str], typer.Argument(help="Directories with parts of one plan, made with --part.")
    ],
    out: Annotated[
        str | None,
        option(WHERE_TO, "Shard directory for all shards. [default: finish the one directory given]"),
    ] = None,
) -> None:
    """Collect the parts of synth or pseudo (see --part) in one directory and finish it. Shards are hard links if possible. Resumes."""
    from ppgen.cli import maintenance  # loads torch: --help must answer at once

    maintenance.gather(directories, out)


@app.command()
@flatten
def verify(
    directory: Directory,
    *,
    regenerate: Annotated[int, typer.Option(help="Sample so many random images again and compare them.")] = 0,
    repair: Annotated[bool, typer.Option("--repair", help="Queue bad shards to be made again.")] = False,
    seed: Annotated[int, typer.Option(help="Chooses the images to sample again.")] = 0,
    planned: PlannedOptions,
    device: Device = "auto",
) -> None:
    """Check a shard directory: plan, tars, parquet files, checksums, labels. Exit status 1 when something is wrong."""
    if regenerate < 0:
        raise UserError(f"--regenerate is {regenerate}; give 0 or more")
    from ppgen.cli import maintenance  # loads torch: --help must answer at once

    _exit(maintenance.verify(directory, planned, device, regenerate=regenerate, seed=seed, repair=repair))


@app.command()
def targets(
    specs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Targets to look through, as --target takes them. [default: list those with a name]"
        ),
    ] = None,
) -> None:
    """List the targets known by name: size, licence, and whether they are here. With arguments, check every image of those targets."""
    from ppgen.cli import maintenance  # loads torch: --help must answer at once

    _exit(maintenance.inspect_targets(specs) if specs else maintenance.show_targets())


@app.command()
def status(
    directory: Directory,
    *,
    price_per_hour: Price = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Again every few seconds, until no run is at work.")
    ] = False,
) -> None:
    """How far a directory is: progress, rate, time and cost left, slow and failing workers. From the directory alone."""
    require_price(price_per_hour)
    from ppgen.cli import maintenance  # loads torch: --help must answer at once

    maintenance.status(directory, price_per_hour, as_json=as_json, watch=watch)


@app.command()
def report(
    directory: Directory,
    *,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Shard directory or target to measure distances to, or none. [default: a pseudo set's target]"
        ),
    ] = None,
    uniform: Annotated[
        str | None,
        typer.Option(
            help="Synth directory, or pseudo of uniform conditions, to compare with. [default: none]"
        ),
    ] = None,
    classifier: ClassifierName = None,
    source: MovedSource = None,
    trust_code: TrustCode = False,
    samples: Annotated[int, typer.Option(help="Most images to look at in each set.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Chooses them.")] = 0,
    device: Device = "auto",
    out: Annotated[str | None, typer.Option(help="Where to write. [default: the directory itself]")] = None,
) -> None:
    """Measure a directory's quality: quality.json and report.html. Needs no download."""
    require_positive("--samples", samples)
    from ppgen.cli import maintenance  # loads torch: --help must answer at once

    request = maintenance.ReportRequest(
        directory,
        reference,
        uniform,
        PlannedOptions(source, classifier, trust_code),
        samples,
        seed,
        device,
    )
    maintenance.report(request, out or directory)


@app.command()
def doctor(
    out: Annotated[
        str, typer.Option(help="Where shards would go, path or URL: a file is written there.")
    ] = "runs",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
) -> None:
    """What this machine lacks, what will not work for it, and what to do. Exit status 1 when an ordinary command will not."""
    from ppgen import doctor as checks  # loads torch: --help must answer at once

    findings = checks.examine(out)
    print(checks.as_json(findings) if as_json else checks.as_text(findings))
    _exit(int(any(finding.state == "broken" for finding in findings)))


@app.command()
def push(
    directory: Directory,
    url: Annotated[str, typer.Argument(help="hf://datasets/OWNER/NAME, s3://BUCKET/NAME or another store.")],
    public: Annotated[bool, typer.Option("--public", help="A new hub repository is public.")] = False,
    may_redistribute: Annotated[
        list[str] | None,
        typer.Option(
            help="A licence you have read, which allows handing the samples on; repeatable. [default: none]"
        ),
    ] = None,
) -> None:
    """Copy a finished directory to the hub or an object store, unless its generator's licence forbids that. Resumes."""
    from ppgen.cli import maintenance  # loads torch: --help must answer at once

    maintenance.push(directory, url, public=public, may_redistribute=may_redistribute or ())


@app.command()
def pull(
    url: Annotated[
        str, typer.Argument(help="hf://datasets/OWNER/NAME[@REVISION], s3://BUCKET/NAME or another store.")
    ],
    out: Annotated[str, typer.Option(help="Shard directory to make.")],
) -> None:
    """Copy a directory from the hub or an object store, every byte compared with its commit records. Resumes."""
    from ppgen.cli import maintenance  # loads torch: --help must answer at once

    maintenance.pull(url, out)


app.add_typer(planner, name="plan")


def main() -> None:
    """Entry point of the console command."""
    run_app(app)


def _exit(status: int) -> None:
    if status:
        raise typer.Exit(status)
