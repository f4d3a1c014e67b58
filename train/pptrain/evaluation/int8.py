"""Static int8 quantisation of an exported ONNX file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from ppcore.classifiers import Classifier
from ppcore.seeds import numpy_rng
from ppcore.targets import ImageSet
from pptrain.evaluation.exporting import INPUT, prepared_images

_QUANTIZED = ["Conv", "Gemm", "MatMul", "Add", "GlobalAveragePool", "AveragePool", "MaxPool"]


def quantize_int8(model: Path, out: Path, calibration: Tensor) -> None:
    """Static int8 quantisation of an ONNX file (weights per channel, activations by their range on `calibration`).

    Args:
        calibration: uint8 (N, C, R, R), images like those the model will see.
    """
    from onnxruntime import quantization  # optional: only for --int8
    from onnxruntime.quantization.shape_inference import quant_pre_process  # optional: only for --int8

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.batches: Iterator[Tensor] = iter(calibration.split(16))

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


def calibration_images(classifier: Classifier, images: ImageSet, count: int = 200) -> Tensor:
    """`prepared_images` of a fixed random choice of at most `count`."""
    chosen = numpy_rng(0, "calibration").permutation(len(images))[:count]
    return prepared_images(classifier, images.select(chosen))
