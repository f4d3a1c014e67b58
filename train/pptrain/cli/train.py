"""`pptrain run`."""

from __future__ import annotations

from typing import Annotated

import typer

from ppcore.console import parse_settings
from ppcore.trust import Trust
from pptrain.cli.tools import TrustCode

# Option -> the setting that it stands for; what is not here can be given with --set.
_SETTINGS = {
    "shards": "data.shards",
    "target": "data.target",
    "labels_per_class": "data.labels_per_class",
    "unlabeled": "data.unlabeled",
    "weights": "data.weights",
    "method": "method.name",
    "arch": "model.arch",
    "init": "model.init",
    "teacher": "model.teacher",
    "out": "out",
    "seed": "seed",
    "steps": "optim.steps",
    "epochs": "optim.epochs",
    "batch_size": "optim.batch_size",
    "lr": "optim.lr",
    "resolution": "data.resolution",
    "channels": "data.channels",
    "batch_norm": "method.batch_norm",
    "flip": "views.flip",
    "workers": "data.workers",
    "amp": "loop.amp",
    "device": "loop.device",
}


def run(
    context: typer.Context,
    *,
    config: Annotated[str | None, typer.Option(help="YAML file; options given here win over it.")] = None,
    preset: Annotated[str | None, typer.Option(help="Named settings: paper.")] = None,
    shards: Annotated[
        list[str] | None, typer.Option(help="Synth directory to pre-train on; repeatable.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="Labelled task: a name (ppgen targets), NAME=DIR, a folder, parquet, tars, CSV."),
    ] = None,
    labels_per_class: Annotated[
        int | None, typer.Option(help="Labelled images a class (default: all).")
    ] = None,
    unlabeled: Annotated[
        list[str] | None, typer.Option(help="Pseudo directory (repeatable), or target:NAME for real images.")
    ] = None,
    weights: Annotated[
        list[float] | None, typer.Option(help="Share of each of several directories; repeatable.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Training method; see pptrain methods (default: condition with unlabelled images, else supervised)."
        ),
    ] = None,
    arch: Annotated[
        str | None, typer.Option(help="small, a torchvision name, timm/NAME or module:callable.")
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="Start from this run, model, kit or classifier; none: from scratch.")
    ] = None,
    teacher: Annotated[str | None, typer.Option(help="Teacher for distillation: a run or model.")] = None,
    out: Annotated[str | None, typer.Option(help="Run directory (default: under runs/).")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides everything random.")] = None,
    steps: Annotated[
        int | None, typer.Option(help="Optimiser steps (default: by the number of images).")
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Length in epochs instead.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Labelled images a step, over all processes.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    resolution: Annotated[int | None, typer.Option(help="Pixels a side the network is fed at.")] = None,
    channels: Annotated[int | None, typer.Option(help="1 (grey) or 3 (colour).")] = None,
    batch_norm: Annotated[str | None, typer.Option(help="joint, labeled or split.")] = None,
    flip: Annotated[bool | None, typer.Option(help="Mirror images.")] = None,
    workers: Annotated[int | None, typer.Option(help="Decoding processes.")] = None,
    amp: Annotated[str | None, typer.Option(help="auto, no, bf16 or fp16.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    ray_workers: Annotated[
        int, typer.Option("--ray", min=0, help="Train on so many processes of a Ray cluster; 0 trains here.")
    ] = 0,
    address: Annotated[str, typer.Option(help="Ray cluster, host:port; local starts one here.")] = "local",
    trust_code: TrustCode = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting, as section.name=value; repeatable.")
    ] = None,
) -> None:
    """Train what is named; with --target alone, or nothing, pre-train and fine-tune on what ppgen left under runs/."""
    # The options by name, as typer declares them above.
    given = {setting: context.params[option] for option, setting in _SETTINGS.items()}
    overrides = {setting: value for setting, value in given.items() if value not in (None, [], ())}
    overrides |= parse_settings(settings or [], "section.name=value")
    from pptrain.engine import run_stages  # loads torch: --help and mistakes must be answered at once

    run_stages(
        overrides,
        file=config,
        preset=preset,
        ray_workers=ray_workers,
        address=address,
        trust=Trust(trust_code),
    )
