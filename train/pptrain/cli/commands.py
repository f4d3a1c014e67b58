"""`pptrain`: train, evaluate, predict, export."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ppcore.console import parse_settings, run_app
from ppcore.errors import UserError

if TYPE_CHECKING:
    from pptrain.config import TrainConfig
    from pptrain.engine import Result

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__.replace("`", "")
)

Model = Annotated[str, typer.Argument(help="Run or model directory, kit name, or classifier spec.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]


@app.command()
def run(
    config: Annotated[str | None, typer.Option(help="YAML file; options given here win over it.")] = None,
    preset: Annotated[str | None, typer.Option(help="Named settings: paper.")] = None,
    shards: Annotated[
        list[str] | None, typer.Option(help="Synth directory to pre-train on; repeatable.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Labelled task: digits, cars, a folder, parquet, tars.")
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
    method: Annotated[str | None, typer.Option(help="Training method; see pptrain methods.")] = None,
    arch: Annotated[
        str | None, typer.Option(help="small, a torchvision name, timm/NAME or module:callable.")
    ] = None,
    init: Annotated[str | None, typer.Option(help="Start from this run, model, kit or classifier.")] = None,
    teacher: Annotated[str | None, typer.Option(help="Teacher for distillation: a run or model.")] = None,
    out: Annotated[str | None, typer.Option(help="Run directory (default: under runs/).")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides everything random.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
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
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting, as section.name=value; repeatable.")
    ] = None,
) -> None:
    """Train one stage; without --shards and --target, pre-train and fine-tune on what ppgen left under runs/."""
    given = {
        "data.shards": shards,
        "data.target": target,
        "data.labels_per_class": labels_per_class,
        "data.unlabeled": unlabeled,
        "data.weights": weights,
        "method.name": method,
        "model.arch": arch,
        "model.init": init,
        "model.teacher": teacher,
        "out": out,
        "seed": seed,
        "optim.steps": steps,
        "optim.epochs": epochs,
        "optim.batch_size": batch_size,
        "optim.lr": lr,
        "data.resolution": resolution,
        "data.channels": channels,
        "method.batch_norm": batch_norm,
        "views.flip": flip,
        "data.workers": workers,
        "loop.amp": amp,
        "loop.device": device,
    }
    overrides = {name: value for name, value in given.items() if value is not None}
    overrides |= parse_settings(settings or [], "section.name=value")
    from pptrain.config import default_out, default_stages, load_config
    from pptrain.engine import train

    def start(stage: TrainConfig) -> Result:
        if not ray_workers:
            return train(stage)
        from pptrain.engine import train_on_ray

        return train_on_ray(stage, ray_workers, address=address)

    if config is None and not shards and not target:
        stages, notes = default_stages(overrides, preset)
        print("\n".join(notes))
        for stage in stages:
            _report(start(stage))
        return
    chosen = load_config(config, overrides, preset=preset)
    _report(start(chosen if chosen.out else default_out(chosen)))


def _report(result: Result) -> None:
    test = result.details.get("test")
    accuracy = ""
    if test is not None:
        low, high = test["interval95"]
        accuracy = (
            f"test accuracy {test['accuracy']:.2%} ({low:.2%} to {high:.2%}, {test['images']} images), "
        )
    if not result.fresh:
        print(f"{result.out} is finished already, with these settings")
    print(f"{accuracy}{result.steps} steps in {result.seconds:.0f} s -> {result.out}")


@app.command(name="eval")
def evaluate(
    model: Model,
    target: Annotated[str, typer.Option(help="digits, cars, a folder, parquet or tars.")],
    split: Annotated[str, typer.Option(help="test, train or all.")] = "test",
    out: Annotated[str | None, typer.Option(help="Also write every figure to this JSON file.")] = None,
    device: Device = "auto",
) -> None:
    """Judge a model: accuracy with its confidence interval, per class, confusion, calibration."""
    from pathlib import Path

    from ppcore.classifiers import load_classifier
    from ppcore.targets import load_target
    from pptrain.engine import Ranks
    from pptrain.evaluation import accuracy as judge

    classifier, task = load_classifier(model), load_target(target)
    images = judge.choose_split(task, split, classifier.spec)
    report = judge.evaluate(classifier.to(Ranks(device).device), images)
    print(judge.describe(report, classifier.spec.class_names))
    if out is not None:
        Path(out).write_text(
            json.dumps({"model": model, "target": target, "split": split, **report.as_dict()})
        )


@app.command()
def predict(
    model: Model,
    images: Annotated[list[str], typer.Argument(help="Image files or folders.")],
    out: Annotated[str | None, typer.Option(help="CSV file (default: the terminal).")] = None,
    top: Annotated[int, typer.Option(min=1, help="Guesses an image.")] = 5,
    device: Device = "auto",
) -> None:
    """Classes of images without labels, as CSV."""
    import io
    import sys
    from pathlib import Path

    from ppcore.classifiers import load_classifier
    from ppcore.storage import Store
    from pptrain.engine import Ranks
    from pptrain.evaluation import find_images, write_predictions

    classifier, files = load_classifier(model), find_images(images)
    classifier.to(Ranks(device).device)
    if out is None:
        write_predictions(classifier, files, sys.stdout, top=top)
        return
    text = io.StringIO(newline="")
    write_predictions(classifier, files, text, top=top)
    Store(Path(out).parent).write_atomic(Path(out).name, text.getvalue().encode())
    print(f"{len(files)} images -> {out}")


@app.command()
def export(
    model: Model,
    out: Annotated[str, typer.Option(help="File to write.")],
    to: Annotated[str, typer.Option(help="onnx or torch-export.")] = "onnx",
    int8: Annotated[bool, typer.Option(help="Also write a statically quantised int8 ONNX file.")] = False,
    target: Annotated[
        str | None,
        typer.Option(help="Calibrates int8 with its training images; its test images judge all files."),
    ] = None,
) -> None:
    """One file for other runtimes, preprocessing built in, checked against the original."""
    from pathlib import Path

    from ppcore.classifiers import load_classifier
    from pptrain.evaluation import export as exporter

    if int8 and (to != "onnx" or target is None):
        raise UserError("--int8 needs --to onnx and --target (its training images calibrate the ranges)")
    classifier, file = load_classifier(model), Path(out)
    worst = exporter.export(classifier, to, file)
    exporter.write_description(classifier, file)
    print(f"{file}: {file.stat().st_size / 1e6:.2f} MB, largest difference of a logit {worst:.2g}")
    if target is not None:
        _judge_export(classifier, file, target, to, int8)


def _judge_export(classifier: Any, file: Any, target: str, to: str, int8: bool) -> None:
    """Accuracy of the original, the exported and the int8 model, one line each."""
    import torch

    from ppcore.targets import load_target
    from pptrain.evaluation import accuracy as judge
    from pptrain.evaluation import export as exporter

    task = load_target(target)
    test = judge.choose_split(task, "test", classifier.spec)
    labels = torch.from_numpy(test.labels)
    report = judge.evaluate(classifier, test)
    print(f"original: test accuracy {report.accuracy:.2%}")
    if to != "onnx":
        return
    images = exporter.prepared_images(classifier, test)
    print(f"onnx: test accuracy {judge.summarize(exporter.onnx_logits(file, images), labels).accuracy:.2%}")
    if int8:
        small = file.with_suffix(".int8.onnx")
        exporter.quantize(file, small, exporter.calibration_images(classifier, task.train))
        accuracy = judge.summarize(exporter.onnx_logits(small, images), labels).accuracy
        print(f"{small}: {small.stat().st_size / 1e6:.2f} MB, test accuracy {accuracy:.2%}")


@app.command()
def methods() -> None:
    """List the training methods and their options."""
    from dataclasses import fields

    from pptrain.methods import METHODS

    for name, method in METHODS.items():
        options = ", ".join(f"{field.name}={field.default}" for field in fields(method))
        about = " ".join((method.__doc__ or "").split("\n\n")[0].split())
        print(f"{name:20s} {about}\n{'':20s} {options}")


def main() -> None:
    """Entry point of the console command."""
    run_app(app)
