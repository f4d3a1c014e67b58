"""The network of `DiTTransformer2DModel` (Peebles & Xie 2023), its weights rearranged for sampling.

Equal to the stock forward up to rounding. What the stock code does in every block, at every step, for every sample and what
is done here: the embedding of the time step and the adaptive-norm parameters of the null label depend on the step alone and
are computed once for all batches; those of the samples are one batched product over all blocks; query, key and value are one
product; modulation, gate and residual are one pass each; the class enters as a weighted mean of embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ppgen.generators.dit.linear import InferenceLinear
from ppgen.generators.parts.compilation import Compilation
from ppgen.generators.parts.labels import embed
from ppgen.sampling import Schedule


class DiTBlock(nn.Module):
    """One transformer block with its adaptive-norm parameters given."""

    def __init__(self, stock: Any, pack: bool) -> None:
        super().__init__()
        attention = stock.attn1
        parts = (attention.to_q, attention.to_k, attention.to_v)
        bias = None if attention.to_q.bias is None else torch.cat([part.bias for part in parts])
        self.heads: int = attention.heads
        self.qkv = InferenceLinear(torch.cat([part.weight for part in parts]), bias, pack=pack)
        self.project = InferenceLinear(attention.to_out[0].weight, attention.to_out[0].bias, pack=pack)
        self.norm1, self.norm2 = stock.norm1.norm, stock.norm3
        self.feed_forward: nn.Module = _feed_forward(stock.ff, pack)

    def forward(self, h: torch.Tensor, parameters: Sequence[torch.Tensor]) -> torch.Tensor:
        """(N, T, D) and six (N, 1, D): shift, scale, gate of the attention, shift, scale, gate of the feed-forward."""
        shift, scale, gate, shift_ff, scale_ff, gate_ff = parameters
        y = torch.addcmul(shift, self.norm1(h), scale)  # (N, T, D)
        n, t, d = y.shape
        q, k, v = (
            self.qkv(y).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        )  # (N, H, T, d)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d)
        h = torch.addcmul(h, gate, self.project(y))
        y = torch.addcmul(shift_ff, self.norm2(h), scale_ff)
        return torch.addcmul(h, gate_ff, self.feed_forward(y))


class DiTCore(nn.Module):
    """Everything between latents and output for which only x and the adaptive-norm parameters are needed."""

    def __init__(self, stock: Any, pack: bool = True) -> None:
        super().__init__()
        self.pos_embed = stock.pos_embed
        self.blocks = nn.ModuleList(DiTBlock(block, pack) for block in stock.transformer_blocks)
        self.norm_out = stock.norm_out
        self.project = InferenceLinear(stock.proj_out_2.weight, stock.proj_out_2.bias, pack=pack)
        self.patch, self.out_channels = stock.config.patch_size, stock.out_channels

    def forward(self, x: torch.Tensor, modulation: torch.Tensor, final: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: (N, C, S, S).
            modulation: (L, 6, N, 1, D), scales with 1 already added.
            final: (2, N, 1, D), shift and scale of the last norm, likewise.

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


class DiTNetwork:
    """A DiT at the levels of one schedule (see :class:`ppgen.generators.parts.diffusion.Network`).

    Takes the stock model apart; it must not be used afterwards.
    """

    has_null = True

    def __init__(self, stock: Any, schedule: Schedule, compilation: Compilation) -> None:
        side, channels = stock.config.sample_size, stock.config.in_channels
        self.shape = (channels, side, side)
        self._dtype = stock.pos_embed.proj.weight.dtype
        norms = [block.norm1 for block in stock.transformer_blocks]
        self._tables = [norm.emb.class_embedder.embedding_table.weight.detach() for norm in norms]
        times = torch.tensor(schedule.timesteps, dtype=torch.float32, device=self._tables[0].device)
        # (levels, L, 1, D): every block embeds the time for itself.
        self._times = torch.stack([_embed_times(norm.emb, times, self._dtype) for norm in norms], dim=1)[
            :, :, None
        ]
        self._weight = torch.stack([norm.linear.weight.detach().T for norm in norms])  # (L, D, 6D)
        self._bias = torch.stack([norm.linear.bias.detach() for norm in norms])[:, None]  # (L, 1, 6D)
        self._final = (stock.proj_out_1.weight.detach(), stock.proj_out_1.bias.detach())
        null = torch.stack([table[-1] for table in self._tables])[:, None]  # (L, 1, D)
        self._null = [self._modulate(level, null) for level in range(len(times))]
        core = DiTCore(stock, pack=compilation.actual == "none")
        for norm in norms:  # the stacked copies above serve from here on
            norm.linear = norm.emb = nn.Identity()
        self._core: Callable[..., torch.Tensor] = compilation.wrap(core)

    def embed(self, condition: torch.Tensor) -> torch.Tensor:
        """(L, B, D): each block has a class table of its own."""
        return torch.stack([embed(table, condition) for table in self._tables])

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
            classes: (L, N, D).
        """
        blocks, count, width = classes.shape
        condition = F.silu(self._times[level] + classes)  # (L, N, D)
        rows = torch.baddbmm(self._bias, condition, self._weight)  # (L, N, 6D)
        modulation = (
            rows.view(blocks, count, 6, width).transpose(1, 2).unsqueeze(3).contiguous()
        )  # (L, 6, N, 1, D)
        modulation[:, 1::3] += 1  # the scales
        # The last norm is conditioned through the first block's embedding.
        final = (
            F.linear(condition[0], *self._final)
            .view(count, 2, width)
            .transpose(0, 1)
            .unsqueeze(2)
            .contiguous()
        )
        final[1] += 1
        return modulation, final


def _embed_times(combined: Any, times: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(levels,) time steps -> (levels, D) by one block's `CombinedTimestepLabelEmbeddings`."""
    with torch.no_grad():
        return combined.timestep_embedder(combined.time_proj(times).to(dtype))


def _feed_forward(stock: Any, pack: bool) -> nn.Module:
    """Linear, GELU, linear as two fused layers; any other activation as it is."""
    from diffusers.models.activations import GELU  # heavy: a stock block that is looked at has loaded it

    first, _, second = stock.net[:3]
    if len(stock.net) != 3 or not isinstance(first, GELU) or first.approximate != "tanh":
        return stock
    return nn.Sequential(
        InferenceLinear(first.proj.weight, first.proj.bias, gelu=True, pack=pack),
        InferenceLinear(second.weight, second.bias, pack=pack),
    )
