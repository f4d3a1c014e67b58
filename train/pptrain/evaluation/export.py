"""Exports a classifier to one file for other runtimes: preprocessing built in, compared with the original, perhaps as int8."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ppcore.classifiers import Classifier, load_classifier
from ppcore.errors import UserError
from ppcore.seeds import numpy_rng
from ppcore.storage import Store
from ppcore.targets import load_target
from ppcore.trust import Trust
from pptrain.evaluation.figures import Evaluation, choose_split, evaluate, image_batches, summarize

SUFFIXES = {"onnx": ".onnx", "torch-export": ".pt2"}
"""Formats, and the suffixes of their files."""
INPUT, OUTPUT = "images", "logits"
_TOLERANCE = 1e-4  # largest difference of a logit, relative to the largest logit
_CHECK_BATCH = 5
_CALIBRATION_IMAGES = 200
_QUANTIZED = ["Conv", "Gemm", "MatMul", "Add", "GlobalAveragePool", "AveragePool", "MaxPool"]


@dataclass(frozen=True)
class Exported:
    """The files that an export wrote.

    Attributes:
        file: the exported model; `<file>.json` beside it describes its input and output.
        difference: largest difference of a logit from the original's, on random images.
        int8: the quantised ONNX file, None without one.
        evaluations: `original`, `onnx`, `int8` -> figures on the target's test images; empty without a target.
    """

    file: Path
    difference: float
    int8: Path | None = None
    evaluations: dict[str, Evaluation] = field(default_factory=dict)

    def describe(self) -> str:
        """A line for each file and each evaluation."""
        lines = [f"{self.file}: {_megabytes(self.file)}, largest difference of a logit {self.difference:.2g}"]
        if self.int8 is not None:
            lines.append(f"{self.int8}: {_megabytes(self.int8)}")
        lines += [f"{name}: test accuracy {found.accuracy:.2%}" for name, found in self.evaluations.items()]
        return "\n".join(lines)


def export_model(
    model: str,
    out: str | None = None,
    *,
    to: str = "onnx",
    int8: bool = False,
    target: str | None = None,
    trust_code: bool = False,
) -> Exported:
    """Export a stored model to one file, and write `<file>.json` beside it, which describes its input and output.

    Args:
        model: run directory, model directory, kit or classifier.
        out: file to write; None is a file beside the model, with its name.
        to: `onnx` or `torch-export` (a program for torch.export.load).
        int8: also write a statically quantised ONNX file, calibrated with the target's training images.
        target: all files are evaluated on its test images.
        trust_code: run the code (module:callable) that the model directory names.

    Raises:
        UserError: no such model, target or format, or a file that does not agree with the original.
    """
    if int8 and (to != "onnx" or target is None):
        raise UserError("--int8 needs --to onnx and --target (its training images calibrate the ranges)")
    classifier = load_classifier(model, trust=Trust(trust_code))
    file = Path(model.rstrip("/") + SUFFIXES.get(to, "")) if out is None else Path(out)
    difference = export_classifier(classifier, to, file)
    description = json.dumps(_description(classifier, file), indent=1) + "\n"
    Store(file.parent).write_atomic(f"{file.name}.json", description.encode())
    if target is None:
        return Exported(file, difference)
    opened = load_target(target)
    test = choose_split(opened, "test", classifier.spec)
    evaluations, quantized = {"original": evaluate(classifier, test)}, None
    if to == "onnx":
        labels = torch.from_numpy(test.labels)
        evaluations["onnx"] = summarize(onnx_logits(file, image_batches(test, classifier.spec)), labels)
    if int8:
        quantized = file.with_suffix(".int8.onnx")
        chosen = numpy_rng(0, "calibration").permutation(len(opened.train))[:_CALIBRATION_IMAGES]
        quantize_int8(file, quantized, image_batches(opened.train.select(chosen), classifier.spec))
        evaluations["int8"] = summarize(onnx_logits(quantized, image_batches(test, classifier.spec)), labels)
    return Exported(file, difference, quantized, evaluations)


class _Deployed(nn.Module):
    """The exported network: uint8 (B, C, R, R) -> float32 logits (B, K). The normalisation is built in."""

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
    """Write `out` in the format `to`, after comparing it with the original.

    Returns:
        The largest difference of a logit on random images.

    Raises:
        UserError: unknown format, or a result that does not agree with the original.
    """
    if to not in SUFFIXES:
        raise UserError(f"unknown export format {to!r}; expected {' or '.join(SUFFIXES)}")
    module = _Deployed(classifier.cpu().eval()).eval()
    example = _random_images(classifier, 2)
    if to == "onnx":
        data = _to_onnx(module, example, classifier)
        run = _onnx_runner(data)
    else:
        data = _to_program(module, example)
        run = _program_runner(data)
    images = _random_images(classifier, _CHECK_BATCH)  # another batch size than the example's
    with torch.inference_mode():
        expected = classifier.whole()(images).numpy()
    worst, scale = float(np.abs(run(images.numpy()) - expected).max()), float(np.abs(expected).max())
    if not worst <= _TOLERANCE * scale:
        raise UserError(
            f"the exported model differs from the original by {worst:.4g} where the largest logit is {scale:.4g}; it was not written"
        )
    Store(out.parent).write_atomic(out.name, data)
    return worst


def onnx_logits(file: Path, batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """Batches uint8 (B, C, R, R) -> float32 logits (B, K), computed by onnxruntime."""
    run = _onnx_runner(file.read_bytes())
    return (torch.from_numpy(run(images.numpy())) for images in batches)


def quantize_int8(model: Path, out: Path, calibration: Iterable[Tensor]) -> None:
    """Quantise an ONNX file statically: weights per channel, activations by their range on `calibration`.

    Args:
        calibration: batches uint8 (B, C, R, R) of images like those that the model will get.
    """
    from onnxruntime import quantization  # optional: only for --int8
    from onnxruntime.quantization.shape_inference import quant_pre_process  # optional: only for --int8

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch.numpy()}

    prepared, staged = out.with_name(f".tmp-{out.name}-prepared"), out.with_name(f".tmp-{out.name}")
    try:
        quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(staged),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=_QUANTIZED,
        )
        staged.replace(out)
    finally:
        prepared.unlink(missing_ok=True)
        staged.unlink(missing_ok=True)


def _description(classifier: Classifier, file: Path) -> dict[str, Any]:
    """Names, types and shapes of input and output, the preparation of an image, and the classes."""
    spec = classifier.spec
    sized = {"center": "shorter_side", "squash": "both_sides", "border": "longer_side"}[spec.crop_mode]
    shape = ["batch", spec.channels, spec.resolution, spec.resolution]
    return {
        "file": file.name,
        "input": {"name": INPUT, "type": "uint8", "shape": shape},
        "output": {"name": OUTPUT, "type": "float32", "shape": ["batch", spec.num_classes]},
        "preparation": {
            "colour": "grey (ITU-R 601 luma)" if spec.channels == 1 else "RGB",
            "crop_mode": spec.crop_mode,
            sized: spec.resize or spec.resolution,
            "resample": f"{spec.interpolation}, antialiased",
            "centre_crop": spec.resolution,
            "fill": spec.preparation.fill,
            "normalisation": "built in",
        },
        "class_names": list(spec.class_names),
    }


def _random_images(classifier: Classifier, count: int) -> Tensor:
    spec = classifier.spec
    generator = torch.Generator().manual_seed(0)
    shape = (count, spec.channels, spec.resolution, spec.resolution)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def _to_onnx(module: nn.Module, example: Tensor, classifier: Classifier) -> bytes:
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


def _to_program(module: nn.Module, example: Tensor) -> bytes:
    program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _onnx_runner(data: bytes) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime  # optional: only for --to onnx

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


def _program_runner(data: bytes) -> Callable[[np.ndarray], np.ndarray]:
    module = torch.export.load(io.BytesIO(data)).module()

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(images)).numpy()

    return run


def _megabytes(file: Path) -> str:
    return f"{file.stat().st_size / 1e6:.2f} MB"
