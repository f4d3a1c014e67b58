"""The commands of `ppgen` that hand directories on: push and pull."""

from __future__ import annotations

from typing import Annotated

import typer

from ppcore.console import Progress
from ppcore.errors import UserError
from ppcore.program import App
from ppgen.options import Directory

sharing = App()
HUB = "hf://"


@sharing.command()
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
    from ppcore.storage import Store  # loads pydantic: --help must answer at once
    from ppgen import exchange  # loads torch: likewise
    from ppgen.shards import read_any_plan  # loads torch: likewise

    if "://" not in url:
        raise UserError(f"{url} is no URL; give hf://datasets/OWNER/NAME or s3://BUCKET/NAME")
    source = Store(directory)
    plan = read_any_plan(source)
    exchange.require_redistribution(plan, tuple(may_redistribute or ()))
    progress = Progress(plan.samples, "samples", label="push")
    if url.startswith(HUB):
        pushed = exchange.push_to_hub(source, url, public=public, on_shard=progress.advance)
    else:
        pushed = exchange.mirror(source, Store(url), progress.advance)
    print(f"{pushed} samples pushed, {plan.samples - pushed} were there: {url}")


@sharing.command()
def pull(
    url: Annotated[
        str, typer.Argument(help="hf://datasets/OWNER/NAME[@REVISION], s3://BUCKET/NAME or another store.")
    ],
    out: Annotated[str, typer.Option(help="Shard directory to make.")],
) -> None:
    """Copy a directory from the hub or an object store, every byte compared with its commit records. Resumes."""
    from ppcore.storage import Store  # loads pydantic: --help must answer at once
    from ppgen import exchange  # loads torch: likewise
    from ppgen.shards import read_any_plan  # loads torch: likewise

    if url.startswith(HUB) and not url.startswith(f"{HUB}datasets/"):
        url = f"{HUB}datasets/{url.removeprefix(HUB)}"
    source = Store(url)
    plan = read_any_plan(source)
    progress = Progress(plan.samples, "samples", label="pull")
    pulled = exchange.mirror(source, Store(out), progress.advance)
    print(f"{pulled} samples pulled, {plan.samples - pulled} were there: {out}")
