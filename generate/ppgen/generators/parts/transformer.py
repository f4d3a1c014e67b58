"""The transformer of DiT (Peebles & Xie 2023) rearranged for sampling; the families `dit`, `sit` and `lightningdit` fill it with weights.

The result equals the published forward up to rounding. That forward repeats three computations in every block, step and sample; this
code does them less often. The time embeddings and the adaptive-norm parameters of the null label depend on the step alone, so they are
computed once for all batches. The adaptive-norm parameters of the samples are one batched product over all blocks. Query, key and value
are one product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from ppgen.generators.parts.family import embed
from ppgen.generators.parts.networks import compile_network


class InferenceLinear(nn.Module):
    """x @ weight.T + bias, then optionally GELU (tanh). For inference only.

    On a CPU in float32, oneDNN's product with packed weights is about a tenth faster than the plain one and applies the GELU
    while the result is in the cache, which saves a fifth of a transformer's first feed-forward layer (`benchmarks/generators.py`).

    Args:
        weight: (out, in); may be several layers' weights stacked.
        bias: (out,) or None.
        gelu: whether the activation follows.
        pack: use packed weights where possible; False for torch.compile, which cannot read them and packs its own.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, gelu: bool = False, pack: bool = True
    ) -> None:
        super().__init__()
        self.gelu = gelu
        self.packed = pack and _can_pack(weight)
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


def _can_pack(weight: torch.Tensor) -> bool:
    """Whether this build of PyTorch can pack this weight: float32 on a CPU with oneDNN."""
    available = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return available and weight.device.type == "cpu" and weight.dtype == torch.float32


class SwiGLU(nn.Module):
    """A gated feed-forward layer: SiLU of the first half of the inner values, times the second half.

    Args:
        first: D -> 2 * inner.
        second: inner -> D.
    """

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, T, D) -> (N, T, D)
        gate, value = self.first(x).chunk(2, dim=-1)
        return self.second(F.silu(gate) * value)


class DiTBlock(nn.Module):
    """One transformer block that is given its adaptive-norm parameters.

    Args:
        heads: of the attention.
        qkv: query, key and value as one layer.
        project: layer after the attention.
        norms: the two norms.
        feed_forward: (N, T, D) -> (N, T, D).
        rotary: cosine and sine, (T, d) each, by which pairs of neighbouring values of queries and keys are rotated; None for none.
    """

    cos: torch.Tensor
    sin: torch.Tensor

    def __init__(
        self,
        heads: int,
        qkv: nn.Module,
        project: nn.Module,
        norms: tuple[nn.Module, nn.Module],
        feed_forward: nn.Module,
        rotary: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.qkv, self.project = heads, qkv, project
        self.norm1, self.norm2 = norms
        self.feed_forward = feed_forward
        self.rotates = rotary is not None
        if rotary is not None:
            self.register_buffer("cos", rotary[0])
            self.register_buffer("sin", rotary[1])

    def forward(self, h: torch.Tensor, parameters: Sequence[torch.Tensor]) -> torch.Tensor:
        """
        Args:
            h: (N, T, D).
            parameters: six (N, 1, D): shift, scale and gate of the attention, then of the feed-forward; scales with 1 added.

        Returns:
            (N, T, D).
        """
        shift, scale, gate, shift_ff, scale_ff, gate_ff = parameters
        y = torch.addcmul(shift, self.norm1(h), scale)  # (N, T, D)
        n, t, d = y.shape
        qkv = self.qkv(y).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)  # (3, N, H, T, d)
        q, k, v = (*self._rotate(qkv[:2]), qkv[2]) if self.rotates else qkv.unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d)
        h = torch.addcmul(h, gate, self.project(y))
        y = torch.addcmul(shift_ff, self.norm2(h), scale_ff)
        return torch.addcmul(h, gate_ff, self.feed_forward(y))

    def _rotate(self, x: torch.Tensor) -> torch.Tensor:  # (..., T, d) -> (..., T, d)
        even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.addcmul(x * self.cos, torch.stack((-odd, even), dim=-1).flatten(-2), self.sin)


class DiTCore(nn.Module):
    """The transformer between latents and output, given the adaptive-norm parameters.

    Args:
        pos_embed: (N, C, S, S) -> (N, T, D), patches and their positions.
        blocks: :class:`DiTBlock`.
        norm_out: the last norm.
        project: D -> patch * patch * out_channels.
        patch: side of a patch.
        out_channels: C'.
    """

    def __init__(
        self,
        pos_embed: nn.Module,
        blocks: Sequence[nn.Module],
        norm_out: nn.Module,
        project: nn.Module,
        patch: int,
        out_channels: int,
    ) -> None:
        super().__init__()
        self.pos_embed, self.blocks, self.norm_out = pos_embed, nn.ModuleList(blocks), norm_out
        self.project, self.patch, self.out_channels = project, patch, out_channels

    def forward(self, x: torch.Tensor, modulation: torch.Tensor, final: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: (N, C, S, S).
            modulation: (L, 6, N, 1, D), the six parameters of every block; 1 is already added to the scales.
            final: (2, N, 1, D), shift and scale of the last norm; 1 is already added to the scale.

        Returns:
            (N, C', S, S).
        """
        h = self.pos_embed(x)  # (N, T, D)
        for block, parameters in zip(self.blocks, modulation.unbind(0), strict=True):
            h = block(h, parameters.unbind(0))
        h = self.project(torch.addcmul(final[0], self.norm_out(h), final[1]))  # (N, T, p*p*C')
        side = int(h.shape[1] ** 0.5)
        h = h.view(len(h), side, side, self.patch, self.patch, self.out_channels)
        h = torch.einsum("nhwpqc->nchpwq", h)
        return h.reshape(len(h), self.out_channels, side * self.patch, side * self.patch)


@dataclass(frozen=True)
class Conditioning:
    """The weights that make the adaptive-norm parameters of L blocks from time and class.

    Attributes:
        tables: (K + 1, D) each: class embeddings, the null label last; one for each block, or one for all.
        times: (levels, L or 1, 1, D), time embeddings of the levels of the schedule.
        weight: (L, D, 6D).
        bias: (L, 1, 6D).
        final: weight (2D, D) and bias (2D,) of the last norm, which is conditioned through the first table.
    """

    tables: Sequence[torch.Tensor]
    times: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor
    final: tuple[torch.Tensor, torch.Tensor]


class DiTNetwork:
    """A DiT as a :class:`ppgen.generators.parts.diffusion.Network`.

    Args:
        shape: (C, H, W) of the latents.
        dtype: number type of the weights.
    """

    has_null = True

    def __init__(
        self,
        core: DiTCore,
        conditioning: Conditioning,
        shape: tuple[int, int, int],
        dtype: torch.dtype,
        device: torch.device,
        compile_mode: str,
    ) -> None:
        self.shape, self._dtype, self._conditioning = shape, dtype, conditioning
        self.tables = conditioning.tables
        null = torch.stack([table[-1] for table in conditioning.tables])[:, None]  # (L or 1, 1, D)
        self._null = [self._modulate(level, null) for level in range(len(conditioning.times))]
        self._core: Callable[..., torch.Tensor] = compile_network(core, compile_mode, device)

    def embed(self, condition: torch.Tensor, keep_norm: bool = False) -> torch.Tensor:
        """(L, B, D) if each block has its own class table, else (1, B, D)."""
        return torch.stack([embed(table, condition, keep_norm) for table in self.tables])

    def predict(self, x: torch.Tensor, level: int, embedded: torch.Tensor, guided: bool) -> torch.Tensor:
        """See :meth:`ppgen.generators.parts.diffusion.Network.predict`."""
        modulation, final = self._modulate(level, embedded)
        x = x.to(self._dtype)
        if guided:
            x = torch.cat([x, x])
            null_modulation, null_final = self._null[level]
            modulation = torch.cat([modulation, null_modulation.expand_as(modulation)], dim=2)
            final = torch.cat([final, null_final.expand_as(final)], dim=1)
        output = self._core(x, modulation, final)
        return output[:, : self.shape[0]]  # the rest is the learned variance

    def _modulate(self, level: int, classes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Adaptive-norm parameters of all blocks, (L, 6, N, 1, D), and of the last norm, (2, N, 1, D).

        Args:
            classes: (L or 1, N, D).
        """
        weights = self._conditioning
        blocks, (_, count, width) = len(weights.weight), classes.shape
        condition = F.silu(weights.times[level] + classes)  # (L or 1, N, D)
        rows = torch.baddbmm(weights.bias, condition.expand(blocks, -1, -1), weights.weight)  # (L, N, 6D)
        modulation = (
            rows.view(blocks, count, 6, width).transpose(1, 2).unsqueeze(3).contiguous()
        )  # (L, 6, N, 1, D)
        modulation[:, 1::3] += 1  # the scales
        final = (
            F.linear(condition[0], *weights.final)
            .view(count, 2, width)
            .transpose(0, 1)
            .unsqueeze(2)
            .contiguous()
        )
        final[1] += 1
        return modulation, final
