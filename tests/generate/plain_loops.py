"""The published sampling loops of SiT and VAR in their plainest form: the reference of tests and of `benchmarks/generators.py`.

Each computes what the published code computes, in its order and without any of the savings of :mod:`ppgen.generators`. The networks are
functions of the published state dict, whose tensors may have any number type and device. Draws come from outside, so that the images can
be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional as F

State = Mapping[str, torch.Tensor]


def sit_images(
    state: State,
    decode: Callable[[torch.Tensor], torch.Tensor],
    labels: torch.Tensor,
    noise: torch.Tensor,
    *,
    heads: int,
    steps: int,
    guidance: float,
) -> torch.Tensor:
    """Images of SiT by Euler's method from noise at time 0 to data at time 1, guided in every step and channel.

    Args:
        decode: latents (B, C, S, S) -> images.
        labels: int64 (B,).
        noise: float32 (B, C, S, S).
    """
    x, null = noise, len(state["y_embedder.embedding_table.weight"]) - 1
    classes = torch.cat([labels, torch.full_like(labels, null)]).to(noise.device)
    for i in range(steps):
        t = torch.full((len(classes),), i / steps, device=noise.device)
        velocity = sit_velocity(state, torch.cat([x, x]), t, classes, heads).float()
        conditional, plain = velocity[:, : x.shape[1]].chunk(2)
        x = x + (plain + guidance * (conditional - plain)) / steps
    return decode(x)


def sit_velocity(state: State, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor, heads: int) -> torch.Tensor:
    """One evaluation of SiT's network: (N, C, S, S), times (N,), labels (N,) -> (N, C', S, S)."""
    from diffusers.models.embeddings import get_2d_sincos_pos_embed

    weight = state["x_embedder.proj.weight"]
    width, _, patch, _ = weight.shape
    h = F.conv2d(x.to(weight), weight, state["x_embedder.proj.bias"], stride=patch)
    side = h.shape[-1]
    positions = get_2d_sincos_pos_embed(width, side, base_size=side, output_type="pt").to(h)
    h = h.flatten(2).transpose(1, 2) + positions
    frequencies = torch.exp(-math.log(10_000) * torch.arange(128, device=t.device) / 128)
    angles = t[:, None].float() * frequencies
    times = _linear(state, "t_embedder.mlp.0", torch.cat([angles.cos(), angles.sin()], 1).to(weight.dtype))
    c = _linear(state, "t_embedder.mlp.2", F.silu(times)) + state["y_embedder.embedding_table.weight"][y]
    for i in range(sum(name.endswith("attn.qkv.weight") for name in state)):
        name = f"blocks.{i}"
        made = _linear(state, f"{name}.adaLN_modulation.1", F.silu(c))[:, None]
        shift, scale, gate, shift_ff, scale_ff, gate_ff = made.chunk(6, dim=-1)
        q, k, v = _heads(_linear(state, f"{name}.attn.qkv", _norm(h) * (1 + scale) + shift), heads)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        h = h + gate * _linear(state, f"{name}.attn.proj", mixed)
        inner = _linear(state, f"{name}.mlp.fc1", _norm(h) * (1 + scale_ff) + shift_ff)
        h = h + gate_ff * _linear(state, f"{name}.mlp.fc2", F.gelu(inner, approximate="tanh"))
    shift, scale = _linear(state, "final_layer.adaLN_modulation.1", F.silu(c))[:, None].chunk(2, dim=-1)
    h = _linear(state, "final_layer.linear", _norm(h) * (1 + scale) + shift)
    blocks = h.view(len(h), side, side, patch, patch, -1)
    return torch.einsum("nhwpqc->nchpwq", blocks).reshape(len(h), -1, side * patch, side * patch)


def var_images(
    state: State,
    decoder: State,
    labels: torch.Tensor,
    uniform: torch.Tensor,
    *,
    scales: Sequence[int],
    cfg: float,
    top_k: int = 0,
    top_p: float = 1.0,
) -> torch.Tensor:
    """Images of VAR, guided, (B, 3, H, W) in [-1, 1].

    Args:
        decoder: state dict of the VQ-VAE.
        labels: int64 (B,).
        uniform: float64 (B, tokens), where the published code draws from one random stream for the batch.
    """
    depth, count, side = state["blocks.0.attn.scale_mul_1H11"].shape[1], len(labels), scales[-1]
    table = state["class_emb.weight"]
    condition = table[torch.cat([labels, torch.full_like(labels, len(table) - 1)]).to(table.device)]
    levels = torch.cat([torch.full((n * n,), i, device=table.device) for i, n in enumerate(scales)])
    positions = state["pos_1LC"] + state["lvl_embed.weight"][levels]
    x = condition[:, None] + state["pos_start"] + positions[:, :1]
    codes = decoder["quantize.embedding.weight"].float()
    latents = torch.zeros(count, codes.shape[1], side, side, device=table.device)
    blocks = sum(name.endswith("attn.mat_qkv.weight") for name in state)
    caches: list[tuple[torch.Tensor, ...]] = [()] * blocks
    start = 0
    for i, n in enumerate(scales):
        for b in range(blocks):
            x, caches[b] = var_block(state, f"blocks.{b}", x, condition, caches[b], depth)
        made = _linear(state, "head_nm.ada_lin.1", F.silu(condition)).unflatten(1, (1, 2, -1))
        scale, shift = made.unbind(2)
        logits = _linear(state, "head", _norm(x) * (1 + scale) + shift).float()
        t = cfg * i / (len(scales) - 1)
        logits = (1 + t) * logits[:count] - t * logits[count:]
        tokens = _draw(logits, uniform[:, start : start + n * n].to(logits.device), top_k, top_p)
        start += n * n
        found = codes[tokens].transpose(1, 2).reshape(count, -1, n, n)
        if n != side:
            found = F.interpolate(found, size=(side, side), mode="bicubic")
        phi = int(np.argmin(np.abs(np.linspace(1 / 12, 11 / 12, 4) - i / (len(scales) - 1))))
        latents = latents + 0.5 * found + 0.5 * _conv(decoder, f"quantize.quant_resi.qresi_ls.{phi}", found)
        if i + 1 < len(scales):
            n = scales[i + 1]
            words = F.interpolate(latents, size=(n, n), mode="area").flatten(2).transpose(1, 2)
            words = _linear(state, "word_embed", words.to(table.dtype)) + positions[:, start : start + n * n]
            x = words.repeat(2, 1, 1)
    return vq_decode(decoder, latents).float().clamp(-1, 1)


def var_block(
    state: State,
    name: str,
    x: torch.Tensor,
    condition: torch.Tensor,
    cache: tuple[torch.Tensor, ...],
    heads: int,
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """One block of VAR: tokens (N, T, C) of a scale -> (N, T, C), and keys and values of all scales so far."""
    if f"{name}.ada_gss" in state:
        made = _linear(state, "shared_ada_lin.1", F.silu(condition)).unflatten(1, (1, 6, -1))
        made = made + state[f"{name}.ada_gss"]
    else:
        made = _linear(state, f"{name}.ada_lin.1", F.silu(condition)).unflatten(1, (1, 6, -1))
    gate, gate_ff, scale, scale_ff, shift, shift_ff = made.unbind(2)
    q_bias, v_bias = state[f"{name}.attn.q_bias"], state[f"{name}.attn.v_bias"]
    bias = torch.cat([q_bias, torch.zeros_like(q_bias), v_bias])
    y = F.linear(_norm(x) * (1 + scale) + shift, state[f"{name}.attn.mat_qkv.weight"], bias)
    q, k, v = _heads(y, heads)
    factor = state[f"{name}.attn.scale_mul_1H11"].clamp(max=math.log(100)).exp()
    q, k = F.normalize(q, dim=-1) * factor, F.normalize(k, dim=-1)
    if cache:
        k, v = torch.cat([cache[0], k], dim=2), torch.cat([cache[1], v], dim=2)
    mixed = F.scaled_dot_product_attention(q, k, v, scale=1.0).transpose(1, 2).flatten(2)
    x = x + gate * _linear(state, f"{name}.attn.proj", mixed)
    inner = _linear(state, f"{name}.ffn.fc1", _norm(x) * (1 + scale_ff) + shift_ff)
    return x + gate_ff * _linear(state, f"{name}.ffn.fc2", F.gelu(inner, approximate="tanh")), (k, v)


def vq_decode(state: State, latents: torch.Tensor) -> torch.Tensor:
    """The decoder of VAR's VQ-VAE: (B, D, S, S) -> (B, 3, 16 S, 16 S)."""
    x = _conv(state, "post_quant_conv", latents.to(state["post_quant_conv.weight"].dtype))
    x = _residual(state, "decoder.mid.block_1", _conv(state, "decoder.conv_in", x))
    x = _residual(state, "decoder.mid.block_2", _attend(state, "decoder.mid.attn_1", x))
    for level in reversed(range(5)):
        for i in range(3):
            x = _residual(state, f"decoder.up.{level}.block.{i}", x)
            if f"decoder.up.{level}.attn.{i}.norm.weight" in state:
                x = _attend(state, f"decoder.up.{level}.attn.{i}", x)
        if level:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = _conv(state, f"decoder.up.{level}.upsample.conv", x)
    return _conv(state, "decoder.conv_out", F.silu(_group_norm(state, "decoder.norm_out", x)))


def _draw(logits: torch.Tensor, uniform: torch.Tensor, top_k: int, top_p: float) -> torch.Tensor:
    """One token for each position, (B, T), by inverting the cumulated probability at its random number."""
    if top_k:
        least = logits.topk(top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -math.inf)
    if top_p < 1:
        rising, order = logits.sort(dim=-1)
        drop = rising.softmax(-1).cumsum(-1) <= 1 - top_p
        drop[..., -1] = False
        logits = logits.masked_fill(drop.scatter(-1, order, drop), -math.inf)
    reached = logits.double().softmax(-1).cumsum(-1)
    return torch.searchsorted(reached, uniform[..., None] * reached[..., -1:], right=True)[..., 0]


def _linear(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def _conv(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    weight = state[f"{name}.weight"].to(x.dtype)
    return F.conv2d(x, weight, state[f"{name}.bias"].to(x.dtype), padding=weight.shape[-1] // 2)


def _norm(x: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def _group_norm(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    return F.group_norm(x, 32, state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6)


def _heads(qkv: torch.Tensor, heads: int) -> tuple[torch.Tensor, ...]:
    """(N, T, 3 C) -> query, key and value, each (N, H, T, d)."""
    return qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def _residual(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    h = _conv(state, f"{name}.conv1", F.silu(_group_norm(state, f"{name}.norm1", x)))
    h = _conv(state, f"{name}.conv2", F.silu(_group_norm(state, f"{name}.norm2", h)))
    shortcut = f"{name}.nin_shortcut"
    return h + (_conv(state, shortcut, x) if f"{shortcut}.weight" in state else x)


def _attend(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    q, k, v = _conv(state, f"{name}.qkv", _group_norm(state, f"{name}.norm", x)).flatten(2).chunk(3, dim=1)
    shares = (q.transpose(1, 2) @ k / math.sqrt(q.shape[1])).softmax(-1)
    return x + _conv(state, f"{name}.proj_out", (v @ shares.transpose(1, 2)).view_as(x))
