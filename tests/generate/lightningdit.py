"""A tiny LightningDiT and VA-VAE under their published names, and the plainest possible computation with them.

The facts are those of the published code (MIT licence): no names, shapes or formulas of ppgen are used.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import torch
from parity import draw
from torch.nn import functional as F

State = dict[str, torch.Tensor]
WIDTH, HEADS, DEPTH, INNER, CHANNELS, SIDE, UNIT = 128, 2, 2, 96, 8, 4, 32


def rotary() -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine (T, d): the first half of a head turns by the row of the position, the second half by its column."""
    half = WIDTH // HEADS // 2
    angles = torch.empty(SIDE**2, 2 * half)
    for row in range(SIDE):
        for column in range(SIDE):
            for pair in range(half // 2):
                speed = 10000 ** (-2 * pair / half)
                for axis, place in enumerate((row, column)):
                    at = axis * half + 2 * pair
                    angles[row * SIDE + column, at : at + 2] = place * speed
    return angles.cos(), angles.sin()


def network_shapes(num_classes: int) -> dict[str, list[int]]:
    layers = {
        "t_embedder.mlp.0": [WIDTH, 256],
        "t_embedder.mlp.2": [WIDTH, WIDTH],
        "final_layer.linear": [CHANNELS, WIDTH],
        "final_layer.adaLN_modulation.1": [2 * WIDTH, WIDTH],
        "x_embedder.proj": [WIDTH, CHANNELS, 1, 1],
    }
    shapes = {"y_embedder.embedding_table.weight": [num_classes + 1, WIDTH]}
    shapes["final_layer.norm_final.weight"] = [WIDTH]
    for i in range(DEPTH):
        layers |= {
            f"blocks.{i}.attn.qkv": [3 * WIDTH, WIDTH],
            f"blocks.{i}.attn.proj": [WIDTH, WIDTH],
            f"blocks.{i}.mlp.w12": [2 * INNER, WIDTH],
            f"blocks.{i}.mlp.w3": [WIDTH, INNER],
            f"blocks.{i}.adaLN_modulation.1": [6 * WIDTH, WIDTH],
        }
        shapes |= {f"blocks.{i}.norm{k}.weight": [WIDTH] for k in (1, 2)}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes


def decoder_shapes() -> dict[str, list[int]]:
    """Of the five resolutions the coarsest is number 4; it alone has attention, which the middle has, too."""
    widths = [UNIT * factor for factor in (1, 1, 2, 2, 4)]
    convolutions = {
        "post_quant_conv": [CHANNELS, CHANNELS, 1, 1],
        "decoder.conv_in": [widths[4], CHANNELS, 3, 3],
        "decoder.conv_out": [3, widths[0], 3, 3],
    }
    norms = {"decoder.norm_out": widths[0]}

    def residual(name: str, before: int, after: int) -> None:
        norms.update({f"{name}.norm1": before, f"{name}.norm2": after})
        convolutions[f"{name}.conv1"] = [after, before, 3, 3]
        convolutions[f"{name}.conv2"] = [after, after, 3, 3]
        if before != after:
            convolutions[f"{name}.nin_shortcut"] = [after, before, 1, 1]

    def attention(name: str) -> None:
        norms[f"{name}.norm"] = widths[4]
        convolutions.update(
            {f"{name}.{part}": [widths[4], widths[4], 1, 1] for part in ("q", "k", "v", "proj_out")}
        )

    residual("decoder.mid.block_1", widths[4], widths[4])
    attention("decoder.mid.attn_1")
    residual("decoder.mid.block_2", widths[4], widths[4])
    for level in range(5):
        for i in range(3):
            before = widths[min(level + 1, 4)] if i == 0 else widths[level]
            residual(f"decoder.up.{level}.block.{i}", before, widths[level])
            if level == 4:
                attention(f"decoder.up.4.attn.{i}")
        if level:
            convolutions[f"decoder.up.{level}.upsample.conv"] = [widths[level], widths[level], 3, 3]
    shapes = {f"{name}.weight": shape for name, shape in convolutions.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in convolutions.items()}
    for name, width in norms.items():
        shapes |= {f"{name}.weight": [width], f"{name}.bias": [width]}
    return shapes


def make_states(num_classes: int = 10) -> tuple[State, State, State]:
    """The contents of the three published files."""
    network = draw({"seed": 8, "gain": 1.0, "shapes": network_shapes(num_classes)})
    network["feat_rope.freqs_cos"], network["feat_rope.freqs_sin"] = rotary()
    network["pos_embed"] = torch.randn(1, SIDE**2, WIDTH, generator=torch.Generator().manual_seed(9))
    decoder = draw({"seed": 10, "gain": 1.0, "shapes": decoder_shapes()})
    spread = torch.linspace(0.5, 2, CHANNELS).view(1, -1, 1, 1)
    return network, decoder, {"mean": spread - 1, "std": spread}


def save_lightningdit(folder: Path, num_classes: int = 10) -> Path:
    """A directory with the published files; the network's as the `ema` of a checkpoint, the decoder's in a whole VA-VAE. 64x64."""
    folder.mkdir(parents=True, exist_ok=True)
    network, decoder, statistics = make_states(num_classes)
    torch.save({"model": {}, "ema": network, "opt": {}}, folder / "lightningdit-tiny.pt")
    unused = ("encoder.conv_in.bias", "loss.logvar", "foundation_model.a", "linear_proj.weight")
    whole = decoder | {name: torch.zeros(1) for name in unused}
    torch.save({"state_dict": whole}, folder / "vavae-tiny.pt")
    torch.save(statistics, folder / "latents_stats.pt")
    return folder


def layer(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def normalise(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * state[f"{name}.weight"]


def turn(x: torch.Tensor) -> torch.Tensor:
    """Rotate the pairs of values (2i, 2i + 1) of every head as complex numbers."""
    cos, sin = rotary()
    turned = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * torch.complex(cos, sin)[:, ::2]
    return torch.view_as_real(turned).flatten(-2)


def velocity(state: State, x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """The network: (N, C, S, S) at times (N,), 0 being noise, for class embeddings (N, D) -> data - noise."""
    n, tokens = len(x), SIDE**2
    h = F.conv2d(x, state["x_embedder.proj.weight"], state["x_embedder.proj.bias"]).flatten(2).transpose(1, 2)
    h = h + state["pos_embed"]
    angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(128) / 128)
    c = layer(state, "t_embedder.mlp.0", torch.cat([angles.cos(), angles.sin()], dim=1))
    c = F.silu(layer(state, "t_embedder.mlp.2", F.silu(c)) + label)
    for i in range(DEPTH):
        name = f"blocks.{i}"
        parts = layer(state, f"{name}.adaLN_modulation.1", c)[:, None].chunk(6, dim=-1)
        y = normalise(state, f"{name}.norm1", h) * (1 + parts[1]) + parts[0]
        q, k, v = layer(state, f"{name}.attn.qkv", y).view(n, tokens, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        weights = (turn(q) @ turn(k).transpose(-1, -2) / math.sqrt(WIDTH // HEADS)).softmax(-1)
        y = (weights @ v).transpose(1, 2).reshape(n, tokens, WIDTH)
        h = h + parts[2] * layer(state, f"{name}.attn.proj", y)
        y = normalise(state, f"{name}.norm2", h) * (1 + parts[4]) + parts[3]
        gate, value = layer(state, f"{name}.mlp.w12", y).chunk(2, dim=-1)
        h = h + parts[5] * layer(state, f"{name}.mlp.w3", F.silu(gate) * value)
    shift, scale = layer(state, "final_layer.adaLN_modulation.1", c)[:, None].chunk(2, dim=-1)
    h = layer(
        state, "final_layer.linear", normalise(state, "final_layer.norm_final", h) * (1 + scale) + shift
    )
    return h.transpose(1, 2).reshape(n, CHANNELS, SIDE, SIDE)


def sample(
    state: State,
    x: torch.Tensor,
    labels: torch.Tensor,
    steps: int,
    guidance: float,
    start: float,
    channels: int,
) -> torch.Tensor:
    """Euler steps at the published times; from time `start` on the first `channels` channels are guided."""
    table = state["y_embedder.embedding_table.weight"]
    times = [0.3 * i / steps / (1 - 0.7 * i / steps) for i in range(steps + 1)]
    for t, after in pairwise(times):
        at = torch.full((len(x),), t)
        found = velocity(state, x, at, table[labels])
        if t >= start:
            plain = velocity(state, x, at, table[-1:].expand(len(x), -1))[:, :channels]
            found[:, :channels] = plain + guidance * (found[:, :channels] - plain)
        x = x + (after - t) * found
    return x


def decode(state: State, statistics: State, latents: torch.Tensor) -> torch.Tensor:
    """Latents of the network -> images in about [-1, 1]."""

    def conv(name: str, x: torch.Tensor) -> torch.Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.group_norm(x, 32, state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    def residual(name: str, x: torch.Tensor) -> torch.Tensor:
        y = conv(f"{name}.conv1", F.silu(norm(f"{name}.norm1", x)))
        y = conv(f"{name}.conv2", F.silu(norm(f"{name}.norm2", y)))
        return y + (conv(f"{name}.nin_shortcut", x) if f"{name}.nin_shortcut.weight" in state else x)

    def attention(name: str, x: torch.Tensor) -> torch.Tensor:
        y = norm(f"{name}.norm", x)
        q, k, v = (conv(f"{name}.{part}", y).flatten(2) for part in "qkv")  # (N, C, T)
        weights = (q.transpose(1, 2) @ k / math.sqrt(q.shape[1])).softmax(-1)
        return x + conv(f"{name}.proj_out", (v @ weights.transpose(1, 2)).view_as(x))

    x = conv("decoder.conv_in", conv("post_quant_conv", latents * statistics["std"] + statistics["mean"]))
    x = residual("decoder.mid.block_1", x)
    x = residual("decoder.mid.block_2", attention("decoder.mid.attn_1", x))
    for level in (4, 3, 2, 1, 0):
        for i in range(3):
            x = residual(f"decoder.up.{level}.block.{i}", x)
            if level == 4:
                x = attention(f"decoder.up.4.attn.{i}", x)
        if level:
            x = conv(f"decoder.up.{level}.upsample.conv", F.interpolate(x, scale_factor=2.0))
    return conv("decoder.conv_out", F.silu(norm("decoder.norm_out", x)))
