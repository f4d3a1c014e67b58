"""What `pptrain eval`, `pptrain predict` and `pptrain export` do."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ppcore.classifiers import Classifier, load_classifier
from ppcore.console import print_warnings
from ppcore.errors import UserError
from ppcore.storage import Store
from ppcore.targets import Target, find_problems, load_target
from ppcore.trust import Trust
from pptrain.evaluation.description import write_description
from pptrain.evaluation.exporting import SUFFIXES, export_classifier, onnx_logits, prepared_images
from pptrain.evaluation.inference import evaluate
from pptrain.evaluation.int8 import calibration_images, quantize_int8
from pptrain.evaluation.predictions import find_images, write_predictions
from pptrain.evaluation.report import Report, describe, summarize
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
    opened = load_target(target)
    print_warnings(find_problems(opened))
    images = choose_split(opened, split, classifier.spec)
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


@dataclass(frozen=True)
class Exported:
    """What an export came to.

    Attributes:
        file: written; `smaller` is its int8 form where there is one.
        worst: largest difference of a logit from the original's.
        judged: `original`, `onnx`, `int8` -> figures on the target's test images; empty without a target.
    """

    file: Path
    worst: float
    judged: dict[str, Report]
    smaller: Path | None = None


def export_model(
    model: str,
    out: str | None = None,
    *,
    to: str = "onnx",
    int8: bool = False,
    target: str | None = None,
    trust: Trust,
) -> Exported:
    """Write a model as one file for other runtimes, and what a user must know of it beside it.

    Args:
        out: None is a file beside the run, with its name.
        to: `onnx` or `torch-export`.
        int8: also write a quantised ONNX file, its ranges calibrated with the target's training images.
        target: its test images judge all the files.

    Raises:
        UserError: no such model, target or format, or a file that does not agree with the original.
    """
    if int8 and (to != "onnx" or target is None):
        raise UserError("--int8 needs --to onnx and --target (its training images calibrate the ranges)")
    classifier = load_classifier(model, trust=trust)
    file = Path(model.rstrip("/") + SUFFIXES.get(to, "")) if out is None else Path(out)
    worst = export_classifier(classifier, to, file)
    write_description(classifier, file)
    print(f"{file}: {file.stat().st_size / 1e6:.2f} MB, largest difference of a logit {worst:.2g}")
    if target is None:
        return Exported(file, worst, {})
    return _judge_files(classifier, Exported(file, worst, {}), load_target(target), to=to, int8=int8)


def _judge_files(
    classifier: Classifier, written: Exported, target: Target, *, to: str, int8: bool
) -> Exported:
    """Accuracy of the original, the exported and the int8 model, one line each."""
    test, smaller, file = choose_split(target, "test", classifier.spec), None, written.file
    judged = {"original": evaluate(classifier, test)}
    print(f"original: test accuracy {judged['original'].accuracy:.2%}")
    if to == "onnx":
        images, labels = prepared_images(classifier, test), torch.from_numpy(test.labels)
        judged["onnx"] = summarize(onnx_logits(file, images), labels)
        print(f"onnx: test accuracy {judged['onnx'].accuracy:.2%}")
    if int8:
        smaller = file.with_suffix(".int8.onnx")
        quantize_int8(file, smaller, calibration_images(classifier, target.train))
        judged["int8"] = summarize(onnx_logits(smaller, images), labels)
        print(
            f"{smaller}: {smaller.stat().st_size / 1e6:.2f} MB, test accuracy {judged['int8'].accuracy:.2%}"
        )
    return replace(written, judged=judged, smaller=smaller)


def _write(file: Path, text: str) -> None:
    Store(file.parent).write_atomic(file.name, text.encode())
