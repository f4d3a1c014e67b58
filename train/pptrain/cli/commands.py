"""The commands `pptrain run`, `eval`, `predict`, `export` and `methods`."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from ppcore.console import parse_settings, run_app
from ppcore.program import EXPERTS, HOW_MUCH, MACHINES, WHAT, WHERE_TO, new_app, option
from ppcore.trust import Trust

app = new_app("pptrain", "Train on shards and a few labelled images; evaluate, predict, export.")

# Option of `pptrain run` -> the setting that it changes. All other settings can be given with --set.
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

_TARGET = "a name (see ppgen targets), NAME=DIR, an image folder, parquet, tars or CSV."
_INIT = "Run, model directory, kit or classifier to start from; none: random weights."

Model = Annotated[str, typer.Argument(help="Run directory, model directory, kit or classifier.")]
Device = Annotated[str, option(MACHINES, "auto, cpu, cuda or cuda:N.")]
TrustCode = Annotated[
    bool,
    option(EXPERTS, "Run the code (module:callable) that a model directory names.", "--trust-code"),
]


@app.command()
def run(
    context: typer.Context,
    *,
    target: Annotated[
        str | None,
        option(WHAT, f"Labelled images: {_TARGET} [default: the one of the newest runs/pseudo-*]"),
    ] = None,
    shards: Annotated[
        list[str] | None,
        option(WHAT, "Synth directory to pre-train on; repeatable. [default: the newest runs/synth-*]"),
    ] = None,
    unlabeled: Annotated[
        list[str] | None,
        option(
            WHAT,
            "Unlabelled images: a pseudo directory, or target:NAME for real images; repeatable. "
            "[default: runs/pseudo-* made for the target]",
        ),
    ] = None,
    arch: Annotated[
        str | None,
        option(
            WHAT,
            "Network: small, mobile, a torchvision name, timm/NAME or module:callable. "
            "[default: that of --init, else small]",
        ),
    ] = None,
    init: Annotated[
        str | None, option(WHAT, f"{_INIT} [default: this command's pre-training, if any]")
    ] = None,
    method: Annotated[
        str | None,
        option(
            WHAT,
            "Training method; see pptrain methods. [default: condition with unlabelled images, else supervised]",
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        option(WHAT, "Run or model that the method distill learns from. [default: none]"),
    ] = None,
    labels_per_class: Annotated[
        int | None, option(HOW_MUCH, "Labelled images of each class to train on. [default: all]")
    ] = None,
    epochs: Annotated[
        float | None,
        option(HOW_MUCH, "Passes over the training images. [default: by the number of images]"),
    ] = None,
    steps: Annotated[
        int | None, option(HOW_MUCH, "Optimiser steps, instead of --epochs. [default: by --epochs]")
    ] = None,
    batch_size: Annotated[
        int | None,
        option(HOW_MUCH, "Labelled images of a step, over all processes. [default: by the number of images]"),
    ] = None,
    weights: Annotated[
        list[float] | None,
        option(
            HOW_MUCH,
            "Share of each of several directories in a batch; repeat it for each directory. [default: by size]",
        ),
    ] = None,
    seed: Annotated[
        int | None, option(HOW_MUCH, "Seed of the split, the weights, the order and the views. [default: 0]")
    ] = None,
    out: Annotated[
        str | None,
        option(
            WHERE_TO,
            "Run directory. If it is unfinished, the run resumes. [default: runs/train-NAME-METHOD-HASH]",
        ),
    ] = None,
    device: Annotated[str | None, option(MACHINES, "auto, cpu, cuda or cuda:N. [default: auto]")] = None,
    workers: Annotated[
        int | None,
        option(MACHINES, "Processes that decode images; 0 decodes in the training process. [default: 0]"),
    ] = None,
    ray_workers: Annotated[
        int,
        option(MACHINES, "Training processes on a Ray cluster; 0 trains here without Ray.", "--ray", min=0),
    ] = 0,
    address: Annotated[
        str, option(MACHINES, "Ray cluster, host:port; local starts one on this machine.")
    ] = "local",
    settings: Annotated[
        list[str] | None,
        option(
            EXPERTS,
            "Training setting KEY=VALUE, such as optim.weight_decay=0.01; config.yaml in a run directory lists all keys; "
            "repeatable. [default: none]",
            "--set",
        ),
    ] = None,
    config: Annotated[
        str | None,
        option(EXPERTS, "YAML file of settings; options of the command line win over it. [default: none]"),
    ] = None,
    preset: Annotated[
        str | None,
        option(EXPERTS, "Named settings: paper (the published schedule for 224 pixels). [default: none]"),
    ] = None,
    lr: Annotated[float | None, option(EXPERTS, "Highest learning rate. [default: 0.002]")] = None,
    resolution: Annotated[
        int | None,
        option(
            EXPERTS,
            "Side in pixels of the images that the network sees. "
            "[default: that of --init, else the shards', else 32 for built-in networks, else 224]",
        ),
    ] = None,
    channels: Annotated[
        int | None,
        option(
            EXPERTS, "1 (grey) or 3 (colour). [default: that of --init, else the shards', else the target's]"
        ),
    ] = None,
    flip: Annotated[
        bool | None,
        option(EXPERTS, "Mirror half of the training images. [default: on for colour, off for grey images]"),
    ] = None,
    batch_norm: Annotated[
        str | None,
        option(
            EXPERTS,
            "Batch norm statistics of labelled and unlabelled images: joint or split. [default: joint]",
        ),
    ] = None,
    amp: Annotated[
        str | None, option(EXPERTS, "Mixed precision: auto, no, bf16 or fp16. [default: auto]")
    ] = None,
    trust_code: TrustCode = False,
) -> None:
    """Train a classifier: on synthetic images, on a target, or on both, one after the other.

    Without options, or with --target alone, it pre-trains on the newest runs/synth-* and then trains on the target with the
    unlabelled images of runs/pseudo-*. With --shards it pre-trains only; with --init or --unlabeled it trains on the target only.
    Repeat an interrupted command to resume it.
    """
    # typer passes the options as declared above; context.params has them by name.
    given = {setting: context.params[name] for name, setting in _SETTINGS.items()}
    overrides = {setting: value for setting, value in given.items() if value not in (None, [], ())}
    overrides |= parse_settings(settings or [], "optim.weight_decay=0.01")
    from pptrain.engine import run_stages  # loads torch: --help and mistakes must be answered at once

    run_stages(
        overrides,
        file=config,
        preset=preset,
        ray_workers=ray_workers,
        address=address,
        trust=Trust(trust_code),
    )


@app.command(name="eval")
def evaluate(
    model: Model,
    target: Annotated[str, option(WHAT, f"Labelled images: {_TARGET}")],
    split: Annotated[str, option(WHAT, "Images to evaluate on: test, train or all.")] = "test",
    out: Annotated[
        str | None, option(WHERE_TO, "Also write every figure to this JSON file. [default: none]")
    ] = None,
    device: Device = "auto",
    trust_code: TrustCode = False,
) -> None:
    """Evaluate a model: accuracy with its confidence interval, accuracy per class, confusions, calibration."""
    from pptrain.evaluation import evaluate_model  # loads torch: --help must answer at once

    found = evaluate_model(model, target, split=split, device=device, trust_code=trust_code)
    print(found.describe())
    if out is not None:
        figures = {"model": model, "target": target, "split": split, **found.as_dict()}
        _write(Path(out), json.dumps(figures))


@app.command()
def predict(
    model: Model,
    images: Annotated[list[str], typer.Argument(help="Image files or folders.")],
    top: Annotated[int, option(HOW_MUCH, "Classes to print for each image, the likeliest first.", min=1)] = 5,
    out: Annotated[str | None, option(WHERE_TO, "CSV file. [default: standard output]")] = None,
    device: Device = "auto",
    trust_code: TrustCode = False,
) -> None:
    """Predict the classes of images without labels, as CSV."""
    from pptrain.evaluation import predict_images, write_csv  # loads torch: --help must answer at once

    predictions = predict_images(model, images, top=top, device=device, trust_code=trust_code)
    if out is None:
        write_csv(predictions, sys.stdout)
        return
    text = io.StringIO(newline="")
    count = write_csv(predictions, text)
    _write(Path(out), text.getvalue())
    print(f"{count} images -> {out}")


@app.command()
def export(
    model: Model,
    to: Annotated[str, option(WHAT, "Format: onnx or torch-export.")] = "onnx",
    int8: Annotated[
        bool, option(WHAT, "Also write a statically quantised int8 ONNX file; needs --target.", "--int8")
    ] = False,
    target: Annotated[
        str | None,
        option(
            WHAT,
            "Labelled images: the training images calibrate int8, all files are evaluated on the test images. "
            "[default: files are compared with the model on noise]",
        ),
    ] = None,
    out: Annotated[str | None, option(WHERE_TO, "File to write. [default: beside MODEL]")] = None,
    trust_code: TrustCode = False,
) -> None:
    """Export a model to one file with its preprocessing, and compare the file with the model."""
    from pptrain.evaluation import export_model  # loads torch: --help must answer at once

    print(export_model(model, out, to=to, int8=int8, target=target, trust_code=trust_code).describe())


@app.command()
def methods() -> None:
    """List the training methods and their options."""
    from pptrain.methods import METHODS  # loads torch: --help must answer at once

    for name, method in METHODS.items():
        options = ", ".join(f"{field.name}={field.default}" for field in fields(method))
        about = " ".join((method.__doc__ or "").split("\n\n")[0].split())
        print(f"{name:20s} {about}\n{'':20s} {options}")


def _write(file: Path, text: str) -> None:
    from ppcore.storage import Store  # loads pydantic: --help must answer at once

    Store(file.parent).write_atomic(file.name, text.encode())


def main() -> None:
    """Entry point of the console command."""
    run_app(app)
