"""The command line options that several commands of ppgen share."""

from __future__ import annotations

from typing import Annotated

import typer

DEFAULT_SOURCE = "dit-xl-2-256"

Source = Annotated[
    str, typer.Option(help="Kit, model directory, hub id or module:callable (see ppgen sources).")
]
Out = Annotated[str | None, typer.Option(help="Shard directory, path or URL [default: under runs/].")]
Seed = Annotated[int, typer.Option(help="Seed of the run.")]
Batch = Annotated[
    int | None,
    typer.Option(
        help="Samples of a forward pass; part of the plan [default: 100, on a GPU what its memory holds]."
    ),
]
PerShard = Annotated[int | None, typer.Option(help="Samples of a shard [default: by size, at most 1000].")]
Format = Annotated[str, typer.Option("--format", help="auto, jpg, png or webp; auto is png up to 64 pixels.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16 [default: by device].")]
Workers = Annotated[
    int | None,
    typer.Option(
        help="Worker processes [default: cores for small images on a CPU, else 1; ray: all that have room]."
    ),
]
Threads = Annotated[
    int | None, typer.Option(help="CPU threads a worker [default: 1 for small images, else all].")
]
EngineName = Annotated[
    str, typer.Option("--engine", help="Where shards are made: inline (this machine) or ray.")
]
Cpus = Annotated[
    float | None, typer.Option("--cpus-per-worker", help="Ray: CPUs reserved for each worker [default: 1].")
]
Gpus = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-worker", help="Ray: GPUs for each worker, may be a fraction [default: 1 if any]."
    ),
]
Address = Annotated[
    str | None, typer.Option(help="Ray: address of a running cluster, or auto [default: start a local one].")
]
Score = Annotated[bool, typer.Option(help="Store the source classifier's confidence in every sample.")]
DropBelow = Annotated[
    float | None,
    typer.Option(
        help="Draw samples again whose confidence (the source classifier's probability of their condition) is below this."
    ),
]
ClassifierName = Annotated[
    str | None, typer.Option("--classifier", help="Source classifier [default: the kit's].")
]
ClassMap = Annotated[
    str | None,
    typer.Option(
        help="JSON or CSV file, classifier class to generator class, where the two label spaces differ."
    ),
]
AllowLicence = Annotated[
    list[str] | None,
    typer.Option(help="Refuse weights of any other licence (SPDX name, or the word commercial); repeatable."),
]
Sampling = Annotated[
    list[str] | None,
    typer.Option("--set", help="Sampler setting NAME=VALUE, such as steps=20 or guidance=1.5; repeatable."),
]
Revision = Annotated[str | None, typer.Option(help="Commit of a hub repository.")]
Trust = Annotated[bool, typer.Option(help="Run code that ships with a model.")]
