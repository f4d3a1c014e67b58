"""Latents -> images: a decoder that works in chunks, so that a large batch does not need its memory at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ppgen.generators.parts.compilation import Compilation
from ppgen.generators.parts.components import load_component
from ppgen.generators.parts.convolution import rearrange
from ppgen.generators.parts.options import DiffusionOptions


class Decoder:
    """An `AutoencoderKL`'s decoder on latents as the denoiser sees them.

    Args:
        vae: the autoencoder.
        chunk: images decoded at a time.
    """

    def __init__(self, vae: Any, chunk: int, compilation: Compilation) -> None:
        self._vae, self._chunk = vae, chunk
        self._scale = 1.0 / vae.config.scaling_factor
        self._shift = vae.config.shift_factor or 0.0
        self._forward = compilation.wrap(self._decode_chunk)

    def image_shape(self, latent: tuple[int, int, int]) -> tuple[int, int, int]:
        """(C, H, W) of the images decoded from latents of this shape."""
        factor = 2 ** (len(self._vae.config.block_out_channels) - 1)
        return self._vae.config.out_channels, latent[1] * factor, latent[2] * factor

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """float32 (B, C, h, w) -> float32 (B, C', H, W), nominally in [-1, 1]."""
        latents = latents * self._scale + self._shift
        return torch.cat([self._forward(chunk) for chunk in latents.split(self._chunk)])

    def _decode_chunk(self, latents: torch.Tensor) -> torch.Tensor:
        latents = latents.to(self._vae.dtype, memory_format=torch.channels_last)
        return self._vae.decode(latents, return_dict=False)[0].float()


def load_decoder(
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    options: DiffusionOptions,
    compilation: Compilation,
) -> Decoder:
    """The decoder of an autoencoder directory, convolutions in channels_last. Raises UserError."""
    vae = load_component("AutoencoderKL", folder, device, dtype)
    vae.encoder = None
    vae.quant_conv = None
    vae = rearrange(vae).to(memory_format=torch.channels_last)
    return Decoder(vae, options.decode_batch, compilation)
