"""Logits of the source classifier -> soft labels."""

from __future__ import annotations

import torch


def soft_labels(logits: torch.Tensor, temperature: float, top_k: int | None) -> torch.Tensor:
    """softmax(logits / temperature), cut to the `top_k` largest entries and renormalised: float64 (N, K)."""
    probabilities = (logits.double() / temperature).softmax(dim=1)
    if top_k is None or top_k >= logits.shape[1]:
        return probabilities
    values, classes = probabilities.topk(top_k, dim=1)
    kept = torch.zeros_like(probabilities).scatter_(1, classes, values)
    return kept / kept.sum(dim=1, keepdim=True)
