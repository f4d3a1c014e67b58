"""The commands of `ppgen` for a directory that is there: extend, merge, verify, status, report; and doctor."""

from __future__ import annotations

from typing import Annotated

import typer

from ppcore.errors import UserError, require_positive
from ppcore.program import App
from ppgen.cli.flatten import flatten
from ppgen.options import (
    ClassifierName,
    Device,
    Directory,
    ExtendOptions,
    MovedSource,
    PlannedOptions,
    Price,
    TrustCode,
    require_price,
)

tools = App()


@tools.command()
@flatten
def extend(directory: Directory, options: ExtendOptions) -> None:
    """Raise the totals of a directory; no committed sample is touched. Interrupted, the same command goes on."""
    from ppgen.cli import maintenance  # loads torch: --help must answer at once

    _exit(maintenance.extend(directory, options))


@tools.command()
def merge(
    directories: Annotated[list[str], typer.Argument(help="Finished directories of the same source.")],
    out: Annotated[str, typer.Option(help="New shard directory.")],
) -> None:
    """Several finished directories as one. Keys are numbered through; the first directory's tars are hard links."""
    from ppgen.cli import maintenance  # loads torch: --help must answer at once

    maintenance.merge(directories, out)


@tools.command()
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

    again = maintenance.Regeneration(regenerate, seed, planned, device)
    _exit(maintenance.verify(directory, again, repair=repair))


@tools.command()
def targets(
    specs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Targets to look through, as --target takes them. [default: list those with a name]"
        ),
    ] = None,
) -> None:
    """List the targets known by name: size, licence, and whether they are here. With arguments, check every image of those targets."""
    from ppgen.cli import target_list  # loads torch: --help must answer at once

    _exit(target_list.inspect(specs) if specs else target_list.show())


@tools.command()
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
    from ppgen.cli import watching  # loads torch: --help must answer at once

    watching.status(directory, price_per_hour, as_json=as_json, watch=watch)


@tools.command()
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
        maintenance.Typed(source, classifier, trust_code),
        samples,
        seed,
        device,
    )
    maintenance.report(request, out or directory)


@tools.command()
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


def _exit(status: int) -> None:
    if status:
        raise typer.Exit(status)
