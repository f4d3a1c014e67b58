"""What `pptrain eval`, `pptrain predict` and `pptrain export` do."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ppcore.classifiers import Classifier, load_classifier
from ppcore.errors import UserError
from ppcore.storage import Store
from ppcore.targets import Target, load_target
from ppcore.trust import Trust
from pptrain.evaluation.description import write_description
from pptrain.evaluation.exporting import export_classifier, onnx_logits, prepared_images
from pptrain.evaluation.inference import evaluate
from pptrain.evaluation.int8 import calibration_images, quantize_int8
from pptrain.evaluation.predictions import find_images, write_predictions
from pptrain.evaluation.report import describe, summarize
from pptrain.evaluation.splits import choose_split
from pptrain.models import choose_device


def evaluate_model(
    model: str, target: str, *, split: str, out: str | None, device: str, trust: Trust
) -> None:
    """Print how good a model is on a split of a target; with `out`, also write every figure as JSON.

    Raises:
        UserError: no such model, target, split or device, or a model of other classes.
    """
    classifier = load_classifier(model, trust=trust)
    images = choose_split(load_target(target), split, classifier.spec)
    report = evaluate(classifier.to(choose_device(device)), images)
    print(describe(report, classifier.spec.class_names))
    if out is not None:
        figures = {"model": model, "target": target, "split": split, **report.as_dict()}
        _write(Path(out), json.dumps(figures))


def predict_images(
    model: str, images: Sequence[str], *, out: str | None, top: int, device: str, trust: Trust
) -> None:
    """Write the `top` classes of every image file as CSV, to the terminal or to `out`.

    Raises:
        UserError: no such model, image or device, or a damaged image.
    """
    classifier, files = load_classifier(model, trust=trust), find_images(images)
    classifier.to(choose_device(device))
    if out is None:
        write_predictions(classifier, files, sys.stdout, top=top)
        return
    text = io.StringIO(newline="")
    write_predictions(classifier, files, text, top=top)
    _write(Path(out), text.getvalue())
    print(f"{len(files)} images -> {out}")


def export_model(model: str, out: str, *, to: str, int8: bool, target: str | None, trust: Trust) -> None:
    """Write a model as one file for other runtimes, and what a user must know of it beside it.

    Args:
        to: `onnx` or `torch-export`.
        int8: also write a quantised ONNX file, its ranges calibrated with the target's training images.
        target: its test images judge all the files.

    Raises:
        UserError: no such model, target or format, or a file that does not agree with the original.
    """
    if int8 and (to != "onnx" or target is None):
        raise UserError("--int8 needs --to onnx and --target (its training images calibrate the ranges)")
    classifier, file = load_classifier(model, trust=trust), Path(out)
    worst = export_classifier(classifier, to, file)
    write_description(classifier, file)
    print(f"{file}: {file.stat().st_size / 1e6:.2f} MB, largest difference of a logit {worst:.2g}")
    if target is not None:
        _judge_files(classifier, file, load_target(target), to=to, int8=int8)


def _judge_files(classifier: Classifier, file: Path, target: Target, *, to: str, int8: bool) -> None:
    """Accuracy of the original, the exported and the int8 model, one line each."""
    test = choose_split(target, "test", classifier.spec)
    print(f"original: test accuracy {evaluate(classifier, test).accuracy:.2%}")
    if to != "onnx":
        return
    images, labels = prepared_images(classifier, test), torch.from_numpy(test.labels)
    print(f"onnx: test accuracy {summarize(onnx_logits(file, images), labels).accuracy:.2%}")
    if int8:
        small = file.with_suffix(".int8.onnx")
        quantize_int8(file, small, calibration_images(classifier, target.train))
        accuracy = summarize(onnx_logits(small, images), labels).accuracy
        print(f"{small}: {small.stat().st_size / 1e6:.2f} MB, test accuracy {accuracy:.2%}")


def _write(file: Path, text: str) -> None:
    Store(file.parent).write_atomic(file.name, text.encode())
