"""`pptrain eval`, `predict`, `export` and `methods`: what is done with a trained model, and what there is to train with."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated

import typer

from ppcore.trust import Trust

Model = Annotated[str, typer.Argument(help="Run or model directory, kit name, or classifier spec.")]
TrustCode = Annotated[
    bool,
    typer.Option(
        "--trust-code",
        help="Run the code (module:callable) that a model directory names as its architecture.",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]


def evaluate(
    model: Model,
    target: Annotated[
        str, typer.Option(help="A name (ppgen targets), NAME=DIR, a folder, parquet, tars, CSV.")
    ],
    split: Annotated[str, typer.Option(help="test, train or all.")] = "test",
    out: Annotated[str | None, typer.Option(help="Also write every figure to this JSON file.")] = None,
    device: Device = "auto",
    trust_code: TrustCode = False,
) -> None:
    """Judge a model: accuracy with its confidence interval, per class, confusion, calibration."""
    from pptrain.evaluation import evaluate_model  # loads torch: --help must answer at once

    evaluate_model(model, target, split=split, out=out, device=device, trust=Trust(trust_code))


def predict(
    model: Model,
    images: Annotated[list[str], typer.Argument(help="Image files or folders.")],
    out: Annotated[str | None, typer.Option(help="CSV file (default: the terminal).")] = None,
    top: Annotated[int, typer.Option(min=1, help="Guesses an image.")] = 5,
    device: Device = "auto",
    trust_code: TrustCode = False,
) -> None:
    """Classes of images without labels, as CSV."""
    from pptrain.evaluation import predict_images  # loads torch: --help must answer at once

    predict_images(model, images, out=out, top=top, device=device, trust=Trust(trust_code))


def export(
    model: Model,
    out: Annotated[str | None, typer.Option(help="File to write [default: beside MODEL].")] = None,
    to: Annotated[str, typer.Option(help="onnx or torch-export.")] = "onnx",
    int8: Annotated[bool, typer.Option(help="Also write a statically quantised int8 ONNX file.")] = False,
    target: Annotated[
        str | None,
        typer.Option(help="Calibrates int8 with its training images; its test images judge all files."),
    ] = None,
    trust_code: TrustCode = False,
) -> None:
    """One file for other runtimes, preprocessing built in, checked against the original."""
    from pptrain.evaluation import export_model  # loads torch: --help must answer at once

    export_model(model, out, to=to, int8=int8, target=target, trust=Trust(trust_code))


def methods() -> None:
    """List the training methods and their options."""
    from pptrain.methods import METHODS  # loads torch: --help must answer at once

    for name, method in METHODS.items():
        options = ", ".join(f"{field.name}={field.default}" for field in fields(method))
        about = " ".join((method.__doc__ or "").split("\n\n")[0].split())
        print(f"{name:20s} {about}\n{'':20s} {options}")
