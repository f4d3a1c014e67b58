"""Soft labels of your own images: the conditions of pseudo conditional sampling."""

from __future__ import annotations

import torch

from ppcore.classifiers import load_classifier
from ppcore.classifiers import soft_labels as _soften
from ppcore.errors import UserError, require_positive
from pptrain.evaluation import predict_logits


def soft_labels(
    images: torch.Tensor,
    classifier: str = "letters",
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    device: str = "cpu",
) -> torch.Tensor:
    """The source classifier's probabilities C_s(x) of images (arXiv 2204.12833, section 3.3).

    Args:
        images: uint8 (N, C, H, W), of any size.
        classifier: a kit's name, a model directory, a torchvision name or `timm/NAME`.
        temperature: temperature of the softmax.
        top_k: keep the k largest probabilities, scaled to sum to 1.
        device: `cpu`, `cuda` or `cuda:N`.

    Returns:
        float32 (N, K), on the CPU.

    Raises:
        UserError: the classifier cannot be loaded, or an argument has a wrong type or value.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise UserError(
            f"images are {str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}; give uint8 (N, C, H, W) with 1 or 3 channels"
        )
    require_positive("temperature", temperature)
    if top_k is not None:
        require_positive("top_k", top_k)
    logits = predict_logits(load_classifier(classifier).to(device), images)
    return _soften(logits, temperature, top_k).float()
