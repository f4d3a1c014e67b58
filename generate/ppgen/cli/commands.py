"""The commands of `ppgen` and their options. Nothing here loads torch, so that --help answers at once."""

from __future__ import annotations

import shlex
import sys
from fnmatch import fnmatchcase
from typing import Annotated

import typer

from ppcore.console import print_table, printable, run_app
from ppcore.errors import UserError
from ppcore.program import EXPERTS, WHAT, WHERE_TO, App, new_app, option
from ppgen.cli.flatten import flatten
from ppgen.options import (
    DEFAULT_SOURCE,
    AllowLicence,
    Directory,
    EstimateOptions,
    ExtendOptions,
    Price,
    PseudoOptions,
    ReadingOptions,
    ReportOptions,
    SynthOptions,
    VerifyOptions,
    require_price,
)

app = new_app("ppgen", "Sample a pre-trained conditional generator into shards.")
planner = App("Show what a synth or pseudo command would make and what it would cost. Writes nothing.")


def generate(options: SynthOptions | PseudoOptions) -> int:
    """Make shards as `ppgen synth` and `ppgen pseudo` do.

    Returns:
        The exit status of the command: 0, or 1 if shards failed.

    Raises:
        UserError: an option is wrong, the source or the target cannot be opened, or the directory holds something else.
    """
    from ppgen.cli import generation  # loads torch

    return generation.generate(options)


def _say_next(command: str) -> None:
    print(f"next: {printable(command)}", file=sys.stderr)


def print_estimate(options: SynthOptions | PseudoOptions, estimate: EstimateOptions) -> None:
    """Print what :func:`generate` would make and what it would cost. Writes nothing."""
    from ppgen.cli import generation  # loads torch

    if isinstance(options, SynthOptions) and options.preview is not None:
        raise UserError("--preview draws images, and ppgen plan draws none; give it to ppgen synth")
    print(generation.estimate(options, estimate).describe())


@app.command()
@flatten
def synth(options: SynthOptions) -> None:
    """Make synthetic images of source classes, the data of pseudo pre-training."""
    if options.preview is not None:
        from ppgen.cli import generation  # loads torch

        print(f"preview: {generation.preview(options, options.preview)}")
        return
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
    """Make images conditioned on the soft labels of target images, the unlabelled data of P-SSL."""
    _exit(generate(options))
    if options.shards.part is not None:
        return
    command = ["pptrain", "run", "--target", options.place]
    if options.labels_per_class:  # train on the images that the samples were made for
        command += ["--labels-per-class", str(options.labels_per_class)]
        seed = options.shards.seed if options.label_seed is None else options.label_seed
        command += ["--seed", str(seed)] if seed else []
    if options.source_options.classifier:
        command += ["--teacher", options.source_options.classifier]
        command += ["--trust-code"] if options.source_options.trust_code else []
    elsewhere = _elsewhere(options.shards.out, "pseudo")
    command += ["--unlabeled", elsewhere] if elsewhere else []
    _say_next(shlex.join(command))


def _elsewhere(out: str | None, kind: str) -> str | None:
    """The directory of `--out` if pptrain does not find it by its name, else None."""
    from ppcore.shards import default_directory  # loads pyarrow

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
    """List the kits, those for products first: image size, licence, the work for one image with the default settings.

    `hours` is the least time for 1.3 million images on one H100, `GB` the size of the weights in its memory.
    """
    from ppgen.sources import least_hours, source_rows  # loads torch

    head = "name family pixels classes licence commercial parameters GB GFLOP/image hours"
    lines = [(*head.split(), "what it is")]
    for row in sorted(source_rows(tuple(allow_licence or ())), key=lambda row: not row.kit.commercial):
        kit = row.kit
        size, use = f"{kit.resolution}x{kit.resolution}x{kit.channels}", "yes" if kit.commercial else "no"
        millions = "?" if row.parameters is None else f"{row.parameters / 1e6:.1f} M"
        memory = "?" if row.parameters is None else f"{2 * row.parameters / 1e9:.2f}"  # bfloat16
        work = "?" if row.gflop is None else f"{row.gflop:,.1f}"
        hours = "?" if row.gflop is None else f"{least_hours(row.gflop, 1_300_000):.2g}"
        name = f"{kit.name} (default)" if kit.name == DEFAULT_SOURCE else kit.name
        about = kit.licence, use, millions, memory, work, hours, kit.description
        lines.append((name, kit.family, size, str(row.classes), *about))
    print_table(lines)


@app.command()
@flatten
def extend(directory: Directory, options: ExtendOptions) -> None:
    """Add samples to a directory. Existing samples do not change. The same command resumes."""
    from ppgen.cli import maintenance  # loads torch

    _exit(maintenance.extend(directory, options))


@app.command()
def gather(
    directories: Annotated[
        list[str],
        typer.Argument(
            help="Directories with parts of one plan, made with --part. Shards are linked or copied."
        ),
    ],
    out: Annotated[
        str | None,
        option(WHERE_TO, "Shard directory for all shards. [default: finish the one directory given]"),
    ] = None,
) -> None:
    """Collect the parts of a synth or pseudo run (see --part) in one directory and finish it. The same command resumes."""
    from ppgen.cli import maintenance  # loads torch

    maintenance.gather(directories, out)


@app.command()
@flatten
def verify(directory: Directory, options: VerifyOptions) -> None:
    """Check a shard directory: plan, tars, parquet files, checksums, labels. The exit status is 1 if something is wrong."""
    from ppgen.cli import maintenance  # loads torch

    _exit(maintenance.verify(directory, options))


@app.command()
@flatten
def targets(
    specs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Targets to check, as for --target. [default: list the targets that have a name]"
        ),
    ] = None,
    reading: ReadingOptions = ReadingOptions(),
) -> None:
    """List the targets that have a name: size, licence, and where they are. With arguments, check every image of these targets."""
    from ppgen.cli import maintenance  # loads torch

    places = [reading.place(spec) for spec in specs or []]
    _exit(maintenance.inspect_targets(places) if places else maintenance.show_targets())


@app.command()
def status(
    directory: Directory,
    *,
    price_per_hour: Price = None,
    as_json: Annotated[bool, option(EXPERTS, "Print one JSON object.", "--json")] = False,
    watch: Annotated[
        bool, option(WHAT, "Print again every 5 seconds until no run is active.", "--watch")
    ] = False,
) -> None:
    """Show the progress of a directory: rate, time and cost left, slow and failing workers. Works while a run is active."""
    require_price(price_per_hour)
    from ppgen.cli import maintenance  # loads torch

    maintenance.status(directory, price_per_hour, as_json=as_json, watch=watch)


@app.command()
@flatten
def report(directory: Directory, options: ReportOptions) -> None:
    """Measure the quality of a directory's images and write quality.json and report.html. Downloads nothing."""
    from ppgen.cli import maintenance  # loads torch

    maintenance.report(directory, options)


@app.command()
def doctor(
    out: Annotated[str, option(WHERE_TO, "Directory or URL to test by writing a small file.")] = "runs",
    as_json: Annotated[bool, option(EXPERTS, "Print one JSON object.", "--json")] = False,
) -> None:
    """Check this machine: packages, GPUs, disk, hub. The exit status is 1 if ordinary commands will not work."""
    from ppgen import doctor as checks  # loads torch

    findings = checks.examine(out)
    print(checks.as_json(findings) if as_json else checks.as_text(findings))
    _exit(int(any(finding.state == "broken" for finding in findings)))


@app.command()
def push(
    directory: Directory,
    url: Annotated[str, typer.Argument(help="hf://datasets/OWNER/NAME, s3://BUCKET/NAME or another store.")],
    public: Annotated[bool, option(WHERE_TO, "Make a new hub repository public.", "--public")] = False,
    may_redistribute: Annotated[
        list[str] | None,
        option(
            EXPERTS,
            "Licence that you have read and that allows sharing the samples; repeatable. [default: none]",
        ),
    ] = None,
) -> None:
    """Copy a finished directory to the hub or an object store, if the licence of its generator allows that. The same command resumes."""
    from ppgen.cli import maintenance  # loads torch

    maintenance.push(directory, url, public=public, may_redistribute=may_redistribute or ())


@app.command()
def pull(
    url: Annotated[
        str, typer.Argument(help="hf://datasets/OWNER/NAME[@REVISION], s3://BUCKET/NAME or another store.")
    ],
    out: Annotated[str, option(WHERE_TO, "New shard directory.")],
) -> None:
    """Copy a finished directory from the hub or an object store and compare its checksums. The same command resumes."""
    from ppgen.cli import maintenance  # loads torch

    maintenance.pull(url, out)


app.add_typer(planner, name="plan")


def main() -> None:
    """Entry point of the console command."""
    run_app(app)


def _exit(status: int) -> None:
    if status:
        raise typer.Exit(status)
