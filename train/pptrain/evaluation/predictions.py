"""Predictions for image files without labels."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
import torch

from ppcore.classifiers import Classifier
from ppcore.errors import UserError
from ppcore.images import IMAGE_EXTENSIONS, decode
from ppcore.targets import fit
from pptrain.evaluation.inference import predict_logits

_BATCH = 256


def find_images(paths: Sequence[str]) -> list[Path]:
    """Image files named outright or found below folders, sorted within each.

    Raises:
        UserError: a path that is not there, or no images at all.
    """
    found: list[Path] = []
    for name in paths:
        path = Path(name)
        if not path.exists():
            raise UserError(f"there is no file or folder {name}; check the path")
        if path.is_file():
            found.append(path)
            continue
        found += sorted(
            f for f in path.rglob("*") if f.is_file() and f.suffix.lower().lstrip(".") in IMAGE_EXTENSIONS
        )
    if not found:
        raise UserError(f"no images in {', '.join(paths)}; expected {', '.join(IMAGE_EXTENSIONS[:4])} files")
    return found


def predict(classifier: Classifier, files: Sequence[Path]) -> Iterator[tuple[Path, torch.Tensor]]:
    """(file, float32 (K,) probabilities) of every image, in order, in memory for one batch at a time.

    Raises:
        UserError: a damaged image.
    """
    spec = classifier.spec
    for first in range(0, len(files), _BATCH):
        part = files[first : first + _BATCH]
        side = spec.resize or spec.resolution
        images = torch.stack([fit(_read(file), side, spec.channels) for file in part])
        yield from zip(part, predict_logits(classifier, images).softmax(1), strict=True)


def write_predictions(classifier: Classifier, files: Sequence[Path], out: TextIO, *, top: int = 5) -> None:
    """CSV: file, then class and probability of the `top` guesses."""
    names = classifier.spec.class_names
    top = min(top, len(names))
    writer = csv.writer(out)
    writer.writerow(
        ["file", *(f"{what}{rank}" for rank in range(1, top + 1) for what in ("class", "probability"))]
    )
    for file, probabilities in predict(classifier, files):
        best, label = probabilities.topk(top)
        cells = [(names[c], f"{p:.4f}") for p, c in zip(best.tolist(), label.tolist(), strict=True)]
        writer.writerow([str(file), *(cell for pair in cells for cell in pair)])


def _read(file: Path) -> np.ndarray:
    try:
        return decode(file.read_bytes())
    except ValueError as error:
        raise UserError(f"{file} cannot be read as an image ({error}); repair or remove it") from error
