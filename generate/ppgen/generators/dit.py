"""DiT (Peebles & Xie 2023): a latent diffusion transformer and its autoencoder, from any `DiTPipeline` directory or hub id.

The weights of `DiTTransformer2DModel` are rearranged for sampling. The result equals the stock forward up to rounding. The stock
code repeats three computations in every block, step and sample; this code does them less often. The time embeddings and the
adaptive-norm parameters of the null label depend on the step alone, so they are computed once for all batches. The adaptive-norm
parameters of the samples are one batched product over all blocks. Query, key and value are one product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ppgen.generators.parts.diffusion import DiffusionGenerator, DiffusionOptions
from ppgen.generators.parts.family import choose_names, embed
from ppgen.generators.parts.networks import LatentDecoder, compile_network, load_component
from ppgen.generators.parts.scheduler import load_scheduler
from ppgen.sampling import Schedule
from ppgen.sources import Generator, Source, read_config, read_options


class DiTBlock(nn.Module):
    """One transformer block that is given its adaptive-norm parameters.

    Args:
        pack: see :class:`InferenceLinear`.
    """

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
        q, k, v = (
            self.qkv(y).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        )  # (N, H, T, d)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d)
        h = torch.addcmul(h, gate, self.project(y))
        y = torch.addcmul(shift_ff, self.norm2(h), scale_ff)
        return torch.addcmul(h, gate_ff, self.feed_forward(y))


class DiTCore(nn.Module):
    """The transformer between latents and output, given the adaptive-norm parameters."""

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


class DiTNetwork:
    """A DiT as a :class:`ppgen.generators.parts.diffusion.Network`. Changes `stock`; do not use it afterwards."""

    has_null = True

    def __init__(self, stock: Any, schedule: Schedule, device: torch.device, compile_mode: str) -> None:
        side, channels = stock.config.sample_size, stock.config.in_channels
        self.shape = (channels, side, side)
        self._dtype = stock.pos_embed.proj.weight.dtype
        norms = [block.norm1 for block in stock.transformer_blocks]
        self._tables = [norm.emb.class_embedder.embedding_table.weight.detach() for norm in norms]
        times = torch.tensor(schedule.timesteps, dtype=torch.float32, device=device)
        # (levels, L, 1, D): every block has its own time embedding.
        self._times = torch.stack([_embed_times(norm.emb, times, self._dtype) for norm in norms], dim=1)[
            :, :, None
        ]
        self._weight = torch.stack([norm.linear.weight.detach().T for norm in norms])  # (L, D, 6D)
        self._bias = torch.stack([norm.linear.bias.detach() for norm in norms])[:, None]  # (L, 1, 6D)
        self._final = (stock.proj_out_1.weight.detach(), stock.proj_out_1.bias.detach())
        null = torch.stack([table[-1] for table in self._tables])[:, None]  # (L, 1, D)
        self._null = [self._modulate(level, null) for level in range(len(times))]
        core = DiTCore(stock, pack=compile_mode == "none")
        for norm in norms:  # the stacked copies above replace these
            norm.linear = norm.emb = nn.Identity()
        self._core: Callable[..., torch.Tensor] = compile_network(core, compile_mode, device)

    def embed(self, condition: torch.Tensor) -> torch.Tensor:
        """(L, B, D): each of the L blocks has its own class table."""
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
        # The stock model conditions its last norm through the first block's embedding.
        final = (
            F.linear(condition[0], *self._final)
            .view(count, 2, width)
            .transpose(0, 1)
            .unsqueeze(2)
            .contiguous()
        )
        final[1] += 1
        return modulation, final


@dataclass(frozen=True)
class _Index:
    """The field of model_index.json that is read: class names by number."""

    id2label: dict[str, str] | None = None


def load(source: Source, device: torch.device, dtype: torch.dtype) -> Generator:
    """A generator from `transformer/`, `vae/` and `scheduler/`.

    Defaults: DPM-Solver++(2M), 20 steps, guidance 1.5 in an interval.

    Raises:
        UserError: files missing or damaged, options that do not fit.
    """
    folder = Path(source.location)
    options = read_options(DiffusionOptions, source)
    options = replace(options, solver=source.sampling.get("solver", "dpmpp_2m"))
    schedule = load_scheduler(folder / "scheduler").schedule(options, clip=False)
    transformer = load_component("DiTTransformer2DModel", folder / "transformer", device, dtype)
    # The stock pipeline hard-codes 1000 as the null label; it is the row after the last class for every number of classes.
    num_classes = int(transformer.config.num_embeds_ada_norm)
    network = DiTNetwork(transformer, schedule, device, options.compile)
    decoder = LatentDecoder(
        folder / "vae", device, dtype, chunk=options.decode_batch, compile_mode=options.compile
    )
    return DiffusionGenerator(
        source,
        network,
        schedule,
        options,
        decoder,
        num_classes=num_classes,
        class_names=choose_names(options.class_names, source.class_names, _names(folder, num_classes)),
        device=device,
        dtype=dtype,
        weights=("transformer", "vae"),
    )


def _names(folder: Path, num_classes: int) -> tuple[str, ...]:
    """Class names of the pipeline's `id2label`, by number: names alone are not unique ("crane")."""
    index = folder / "model_index.json"
    labels = read_config(index, _Index).id2label if index.is_file() else None
    return () if labels is None else tuple(labels.get(str(k), str(k)) for k in range(num_classes))


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


def _embed_times(combined: Any, times: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(levels,) time steps -> (levels, D), by the time half of one block's `CombinedTimestepLabelEmbeddings`."""
    with torch.no_grad():
        return combined.timestep_embedder(combined.time_proj(times).to(dtype))


def _feed_forward(stock: Any, pack: bool) -> nn.Module:
    """Linear, GELU, linear as two fused layers; the stock module where it has another activation."""
    from diffusers.models.activations import GELU  # importing diffusers takes seconds

    first, _, second = stock.net[:3]
    if len(stock.net) != 3 or not isinstance(first, GELU) or first.approximate != "tanh":
        return stock
    return nn.Sequential(
        InferenceLinear(first.proj.weight, first.proj.bias, gelu=True, pack=pack),
        InferenceLinear(second.weight, second.bias, pack=pack),
    )
