"""Linear layers for inference: weights packed once for the CPU's matrix kernels, the activation fused into the product."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class InferenceLinear(nn.Module):
    """x @ weight.T + bias, then GELU (tanh) if asked for.

    On a CPU in float32 oneDNN's packed product is about a tenth faster than the plain one here and applies the GELU while
    the result is in cache, which saves a fifth of a transformer's first feed-forward layer (`benchmarks/generators.py`).

    Args:
        weight: (out, in); may be several layers' weights stacked.
        bias: (out,) or None.
        gelu: whether the activation follows.
        pack: use the packed product where there is one; the compiler does not read packed weights and packs its own.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, gelu: bool = False, pack: bool = True
    ) -> None:
        super().__init__()
        self.gelu = gelu
        self.packed = pack and can_pack(weight)
        weight = weight.detach().contiguous()
        self.register_buffer(
            "weight", torch.ops.mkldnn._reorder_linear_weight(weight, None) if self.packed else weight
        )
        self.register_buffer("bias", None if bias is None else bias.detach().contiguous())

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (..., in) -> (..., out)
        if self.packed:
            name, algorithm = ("gelu", "tanh") if self.gelu else ("none", "")
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, name, [], algorithm)
        y = F.linear(x, self.weight, self.bias)
        return F.gelu(y, approximate="tanh") if self.gelu else y


def can_pack(weight: torch.Tensor) -> bool:
    """Whether this build of PyTorch packs this weight."""
    available = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return available and weight.device.type == "cpu" and weight.dtype == torch.float32
