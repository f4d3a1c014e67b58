"""The convolutional decoder of latent diffusion (Rombach et al. 2022) from published weights, as VAR's VQ-VAE and VA-VAE have it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ppgen.generators.parts.convolution import rearrange
from ppgen.generators.parts.published import State

_WIDTHS = (1, 1, 2, 2, 4)  # of the decoder's resolutions, from fine to coarse, in units of its last width
UPSCALING = 2 ** (len(_WIDTHS) - 1)
"""Pixels on the side of one latent position."""
_RENAMED = (
    ("mid_block.resnets.0", "mid.block_1"),
    ("mid_block.resnets.1", "mid.block_2"),
    ("mid_block.attentions.0", "mid.attn_1"),
    (".resnets.", ".block."),
    (".attentions.", ".attn."),
    ("upsamplers.0", "upsample"),
    ("conv_norm_out", "norm_out"),
    ("conv_shortcut", "nin_shortcut"),
    ("group_norm", "norm"),
    ("to_out.0", "proj_out"),
)
"""Names in diffusers' decoder and in the published one, which computes the same."""


def build_decoder(unit: int, values: int) -> Any:
    """diffusers' decoder in the published shape, without the convolution before it. Args: see :func:`decoder_shapes`."""
    from diffusers.models.autoencoders.vae import Decoder  # importing diffusers takes seconds

    return Decoder(
        in_channels=values,
        out_channels=3,
        up_block_types=("AttnUpDecoderBlock2D", *("UpDecoderBlock2D",) * (len(_WIDTHS) - 1)),
        block_out_channels=tuple(unit * width for width in _WIDTHS),
        layers_per_block=2,
    )


def decoder_shapes(unit: int, values: int, *, fused: bool) -> dict[str, tuple[int, ...]]:
    """Published name -> shape of every weight of the decoder and of the convolution before it.

    Args:
        unit: width of the decoder at its highest resolution.
        values: channels of the latents.
        fused: as in VAR, query, key and value are one layer and the convolution before is 3x3; else they are three, and it is 1x1.
    """
    side = 3 if fused else 1
    shapes = {"post_quant_conv.weight": (values, values, side, side), "post_quant_conv.bias": (values,)}
    with torch.device("meta"):
        weights = build_decoder(unit, values).state_dict()
    return shapes | {
        _published(name, fused): _shape(name, value.shape, fused) for name, value in weights.items()
    }


def read_decoder(state: State, device: torch.device, dtype: torch.dtype, *, fused: bool) -> nn.Module:
    """(B, D, S, S) -> (B, 3, 16 S, 16 S), from a state dict that has all of :func:`decoder_shapes`."""

    def copy(tensor: torch.Tensor) -> torch.Tensor:  # of a part of the file, which may change later
        return tensor.to(device, dtype, copy=True)

    values, _, side, _ = state["post_quant_conv.weight"].shape
    with torch.device("meta"):  # the weights are replaced below
        post = nn.Conv2d(values, values, side, padding=side // 2)
        decoder = build_decoder(state["decoder.conv_out.weight"].shape[1], values)
    parts = {name: _part(name, state[_published(name, fused)], fused) for name in decoder.state_dict()}
    decoder.load_state_dict({name: copy(tensor) for name, tensor in parts.items()}, assign=True)
    biased = {name: copy(state[f"post_quant_conv.{name}"]) for name in ("weight", "bias")}
    post.load_state_dict(biased, assign=True)
    module = nn.Sequential(post, rearrange(decoder)).eval().requires_grad_(False)
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _published(name: str, fused: bool) -> str:
    """The published name of a weight of diffusers' decoder."""
    name = re.sub(r"up_blocks\.(\d+)", lambda match: f"up.{len(_WIDTHS) - 1 - int(match[1])}", name)
    for ours, theirs in _RENAMED:
        name = name.replace(ours, theirs)
    return "decoder." + re.sub(r"to_([qkv])\.", "qkv." if fused else r"\1.", name)


def _shape(name: str, shape: Sequence[int], fused: bool) -> tuple[int, ...]:
    """The published shape: linear layers of the attention are 1x1 convolutions, and query, key and value may be one."""
    out, *rest = shape
    if fused and re.search(r"to_[qkv]\.", name):
        out *= 3
    flat = re.search(r"to_([qkv]|out\.0)\.weight", name)
    return (out, *rest, 1, 1) if flat else (out, *rest)


def _part(name: str, tensor: torch.Tensor, fused: bool) -> torch.Tensor:
    """The published weight as diffusers' decoder has it."""
    part = re.search(r"to_([qkv])\.", name) if fused else None
    tensor = tensor.chunk(3)["qkv".index(part[1])] if part else tensor
    return tensor.flatten(1) if re.search(r"to_([qkv]|out\.0)\.weight", name) else tensor
