"""A trained classifier as one file for other runtimes, its preprocessing built in, checked against the original."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ppcore.classifiers import Classifier
from ppcore.errors import UserError
from ppcore.storage import Store
from ppcore.targets import ImageSet
from pptrain.evaluation.inference import load_images

SUFFIXES = {"onnx": ".onnx", "torch-export": ".pt2"}
"""Formats, and how their files end."""
INPUT, OUTPUT = "images", "logits"
_TOLERANCE = 2e-3  # largest difference of a logit, relative to the largest logit
_CHECK_BATCH = 5


class Deployed(nn.Module):
    """What is exported: uint8 (B, C, R, R) in, float32 logits (B, K) out; R x R images need no further preparation."""

    _mean: Tensor
    _std: Tensor

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        spec = classifier.spec
        self.net = classifier.net
        self.register_buffer("_mean", torch.tensor(spec.mean).view(1, -1, 1, 1) * 255.0)
        self.register_buffer("_std", torch.tensor(spec.std).view(1, -1, 1, 1) * 255.0)

    def forward(self, images: Tensor) -> Tensor:
        return self.net((images.float() - self._mean) / self._std).float()


def export_classifier(classifier: Classifier, to: str, out: Path) -> float:
    """Write `out`, after comparing it with the original.

    Args:
        to: `onnx` or `torch-export` (a program for torch.export.load).

    Returns:
        The largest difference of a logit on random images.

    Raises:
        UserError: unknown format, or a result that does not agree with the original.
    """
    if to not in SUFFIXES:
        raise UserError(f"unknown export format {to!r}; expected {' or '.join(SUFFIXES)}")
    module = Deployed(classifier.cpu().eval()).eval()
    example = _random_images(classifier, 2)
    data = _to_onnx(module, example, classifier) if to == "onnx" else _to_program(module, example)
    images = _random_images(classifier, _CHECK_BATCH)  # another batch size than the example's
    run = _onnx_runner(data) if to == "onnx" else _program_runner(data)
    with torch.inference_mode():
        expected = classifier(images).numpy()
    worst = float(np.abs(run(images.numpy()) - expected).max())
    if not worst <= _TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise UserError(f"the exported model differs from the original by {worst:.4g}; it was not written")
    Store(out.parent).write_atomic(out.name, data)
    return worst


def prepared_images(classifier: Classifier, images: ImageSet) -> Tensor:
    """uint8 (N, C, R, R) as the exported model takes them."""
    spec = classifier.spec
    pixels = load_images(images, spec)
    edge = (pixels.shape[-1] - spec.resolution) // 2
    return pixels[..., edge : edge + spec.resolution, edge : edge + spec.resolution].contiguous()


def onnx_logits(file: Path, images: Tensor, *, batch: int = 64) -> Tensor:
    """uint8 (N, C, R, R) -> float32 logits (N, K), by onnxruntime."""
    run = _onnx_runner(file.read_bytes())
    return torch.cat([torch.from_numpy(run(part.numpy())) for part in images.split(batch)])


def _random_images(classifier: Classifier, count: int) -> Tensor:
    spec = classifier.spec
    generator = torch.Generator().manual_seed(0)
    shape = (count, spec.channels, spec.resolution, spec.resolution)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def _to_onnx(module: Deployed, example: Tensor, classifier: Classifier) -> bytes:
    try:
        import onnxscript  # noqa: F401  # optional: only for --to onnx
    except ImportError as error:
        raise UserError(
            "ONNX export needs onnx, onnxscript and onnxruntime; pip install 'pptransfer[export]'"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (example,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    entry = proto.metadata_props.add()
    entry.key, entry.value = "class_names", json.dumps(classifier.spec.class_names)
    return proto.SerializeToString()


def _to_program(module: Deployed, example: Tensor) -> bytes:
    program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _onnx_runner(data: bytes) -> Any:
    import onnxruntime  # optional: only for --to onnx

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


def _program_runner(data: bytes) -> Any:
    module = torch.export.load(io.BytesIO(data)).module()

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(images)).numpy()

    return run
