"""DiT (Peebles & Xie 2023): a latent diffusion transformer and its autoencoder, from any `DiTPipeline` directory or hub id."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ppgen.generators.parts.diffusion import DiffusionGenerator, DiffusionOptions
from ppgen.generators.parts.family import choose_names
from ppgen.generators.parts.networks import load_component, load_decoder
from ppgen.generators.parts.scheduler import load_scheduler
from ppgen.generators.parts.transformer import Conditioning, DiTBlock, DiTCore, DiTNetwork, InferenceLinear
from ppgen.sampling import Schedule
from ppgen.sources import Generator, Source, read_config, read_options


def read_network(stock: Any, schedule: Schedule, device: torch.device, compile_mode: str) -> DiTNetwork:
    """The network of a `DiTTransformer2DModel`. Changes `stock`; do not use it afterwards."""
    side, dtype, pack = stock.config.sample_size, stock.pos_embed.proj.weight.dtype, compile_mode == "none"
    norms = [block.norm1 for block in stock.transformer_blocks]
    times = torch.tensor(schedule.timesteps, dtype=torch.float32, device=device)
    conditioning = Conditioning(
        tables=[norm.emb.class_embedder.embedding_table.weight.detach() for norm in norms],
        # Every block has its own time embedding.
        times=torch.stack([_embed_times(norm.emb, times, dtype) for norm in norms], dim=1)[:, :, None],
        weight=torch.stack([norm.linear.weight.detach().T for norm in norms]),
        bias=torch.stack([norm.linear.bias.detach() for norm in norms])[:, None],
        final=(stock.proj_out_1.weight.detach(), stock.proj_out_1.bias.detach()),
    )
    core = DiTCore(
        stock.pos_embed,
        [_block(block, pack) for block in stock.transformer_blocks],
        stock.norm_out,
        InferenceLinear(stock.proj_out_2.weight, stock.proj_out_2.bias, pack=pack),
        stock.config.patch_size,
        stock.out_channels,
    )
    network = DiTNetwork(
        core, conditioning, (stock.config.in_channels, side, side), dtype, device, compile_mode
    )
    for norm in norms:  # the stacked copies above replace these
        norm.linear = norm.emb = nn.Identity()
    return network


def _block(stock: Any, pack: bool) -> DiTBlock:
    attention = stock.attn1
    parts = (attention.to_q, attention.to_k, attention.to_v)
    bias = None if attention.to_q.bias is None else torch.cat([part.bias for part in parts])
    return DiTBlock(
        attention.heads,
        InferenceLinear(torch.cat([part.weight for part in parts]), bias, pack=pack),
        InferenceLinear(attention.to_out[0].weight, attention.to_out[0].bias, pack=pack),
        (stock.norm1.norm, stock.norm3),
        _feed_forward(stock.ff, pack),
    )


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
    network = read_network(transformer, schedule, device, options.compile)
    decoder = load_decoder(
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
