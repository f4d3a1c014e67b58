"""The commands `pptrain run`, `eval`, `predict`, `export` and `methods`."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from ppcore.console import parse_settings, run_app
from ppcore.errors import UserError
from ppcore.program import EXPERTS, HOW_MUCH, MACHINES, READING, WHAT, WHERE_TO, new_app, option
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

_TARGET = "a name (see ppgen targets), NAME=PLACE, or a folder, table or archive of images."

Model = Annotated[str, typer.Argument(help="Run directory, model directory, kit or classifier.")]
Device = Annotated[str, option(MACHINES, "auto, cpu, cuda or cuda:N.")]
TrustCode = Annotated[
    bool, option(EXPERTS, "Run the code (module:callable) that a model directory names.", "--trust-code")
]


def _unset(group: str, text: str, *names: str) -> Any:
    """An option of `pptrain run` that leaves the setting alone unless it is given."""
    return typer.Option(None, *names, help=text, rich_help_panel=group)


@app.command()
def run(
    context: typer.Context,
    *,
    target: str | None = _unset(
        WHAT, f"Labelled images: {_TARGET} [default: the target of the newest runs/pseudo-*]"
    ),
    shards: list[str] | None = _unset(
        WHAT, "Synth directory to pre-train on; repeatable. [default: the newest runs/synth-*]"
    ),
    unlabeled: list[str] | None = _unset(
        WHAT,
        "Unlabelled images: a pseudo directory, or target:NAME for real images; repeatable. "
        "[default: runs/pseudo-* made for the target]",
    ),
    arch: str | None = _unset(
        WHAT,
        "Network: small, mobile, a torchvision name, timm/NAME or module:callable. "
        "[default: the network of --init, else small]",
    ),
    init: str | None = _unset(
        WHAT,
        "Run, model directory, kit or classifier to start from; none: random weights. "
        "[default: this command's pre-training, else none]",
    ),
    method: str | None = _unset(
        WHAT,
        "Training method; pptrain methods lists them. [default: condition with unlabelled images, else supervised]",
    ),
    teacher: str | None = _unset(
        WHAT,
        "Model to learn from; with pseudo samples the source classifier. [default: their plan's, if a kit or published]",
    ),
    labels_per_class: int | None = _unset(
        HOW_MUCH, "Labelled images of each class to train on. [default: all]"
    ),
    epochs: float | None = _unset(
        HOW_MUCH, "Passes over the training images. [default: by the number of images]"
    ),
    steps: int | None = _unset(
        HOW_MUCH, "Optimiser steps, instead of --epochs. [default: by the number of images]"
    ),
    batch_size: int | None = _unset(
        HOW_MUCH, "Labelled images of a step, over all processes. [default: 50; 64 in pre-training]"
    ),
    weights: list[float] | None = _unset(
        HOW_MUCH, "Share of a directory in every batch; repeat it for each directory. [default: by size]"
    ),
    seed: int | None = _unset(
        HOW_MUCH, "Seed of the split, the weights, the order and the views. [default: 0]"
    ),
    out: str | None = _unset(
        WHERE_TO, "Run directory; an unfinished run resumes. [default: runs/train-NAME-METHOD-HASH]"
    ),
    device: str | None = _unset(MACHINES, "auto, cpu, cuda or cuda:N. [default: auto]"),
    workers: int | None = _unset(
        MACHINES, "Processes that decode images; 0 decodes in the training process. [default: 0]"
    ),
    ray_workers: Annotated[
        int, option(MACHINES, "Training processes on a Ray cluster; 0 trains here.", "--ray", min=0)
    ] = 0,
    address: Annotated[
        str, option(MACHINES, "Ray cluster, host:port; local starts one on this machine.")
    ] = "local",
    settings: list[str] | None = _unset(
        EXPERTS,
        "Training setting KEY=VALUE, such as optim.weight_decay=0.01; the config.yaml of any run lists all keys; "
        "repeatable. [default: none]",
        "--set",
    ),
    classes_from: str | None = _unset(EXPERTS, READING["classes_from"]),
    image_column: str | None = _unset(EXPERTS, READING["image_column"]),
    label_column: str | None = _unset(EXPERTS, READING["label_column"]),
    split: str | None = _unset(EXPERTS, READING["split"]),
    config: str | None = _unset(
        EXPERTS, "YAML file of settings; options of the command line win over it. [default: none]"
    ),
    preset: str | None = _unset(
        EXPERTS, "Named settings: paper (the published schedule for 224 pixels). [default: none]"
    ),
    lr: float | None = _unset(EXPERTS, "Highest learning rate. [default: 0.002]"),
    resolution: int | None = _unset(
        EXPERTS,
        "Side in pixels of the network's input. "
        "[default: as --init, else as the shards, else 32 for built-in networks, else 224]",
    ),
    channels: int | None = _unset(
        EXPERTS, "1 (grey) or 3 (colour). [default: as --init, else as the shards, else as the target]"
    ),
    flip: bool | None = _unset(
        EXPERTS,
        "Mirror half of the training images. [default: on for colour, off for grey images]",
        "--flip/--no-flip",
    ),
    batch_norm: str | None = _unset(
        EXPERTS, "Batch norm of labelled and unlabelled images: joint or split. [default: joint]"
    ),
    amp: str | None = _unset(EXPERTS, "Mixed precision: auto, no, bf16 or fp16. [default: auto]"),
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
    reading = {
        name: context.params[name] for name in ("classes_from", "image_column", "label_column", "split")
    }
    if any(reading.values()):
        if "data.target" not in overrides:
            raise UserError(
                "--classes-from, --image-column, --label-column and --split describe a target; add --target"
            )
        from ppcore.targets import with_options  # loads pyarrow: --help must answer at once

        overrides["data.target"] = with_options(str(overrides["data.target"]), reading)
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
    target: Annotated[
        str,
        option(WHAT, f"Labelled images: {_TARGET} Options of its reading follow ?, as in photos?split=none."),
    ],
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
        from ppcore.storage import Store  # loads pydantic: --help must answer at once

        file = Path(out)
        Store(file.parent).write_atomic(file.name, json.dumps(figures).encode())


@app.command()
def predict(
    model: Model,
    images: Annotated[
        list[str],
        typer.Argument(
            help="Images: files, folders, patterns, tables, archives, or - for a list from stdin."
        ),
    ],
    top: Annotated[int, option(HOW_MUCH, "Classes to print for each image, the likeliest first.", min=1)] = 5,
    out: Annotated[
        str | None,
        option(WHERE_TO, "File to write: .csv, .jsonl or .parquet. [default: CSV on standard output]"),
    ] = None,
    device: Device = "auto",
    trust_code: TrustCode = False,
) -> None:
    """Predict the classes of images without labels, as a table."""
    from pptrain.evaluation import (  # loads torch: --help must answer at once
        check_output,
        predict_images,
        write_csv,
        write_predictions,
    )

    if out is not None:
        check_output(out)  # before the work
    predictions = predict_images(model, images, top=top, device=device, trust_code=trust_code)
    if out is None:
        write_csv(predictions, sys.stdout)
        return
    print(f"{write_predictions(predictions, out)} images -> {out}")


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
            "[default: none, the file is only compared with the model on random images]",
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


def main() -> None:
    """Entry point of the console command."""
    run_app(app)
