"""Tokens of several scales: drawing them, and the multi-scale residual VQ-VAE of VAR that decodes them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from ppcore.errors import UserError
from ppgen.generators.parts.decoder import UPSCALING, decoder_shapes, read_decoder
from ppgen.generators.parts.networks import LatentDecoder
from ppgen.generators.parts.published import State, require_shapes

_PHIS = tuple(f"quantize.quant_resi.qresi_ls.{k}" for k in range(4))
_UNUSED = re.compile(r"(encoder|quant_conv)\..*|quantize\.ema_vocab_hit_SV")


class MultiScaleDecoder:
    """Tokens of every scale -> latents -> images, from the published state dict of the VQ-VAE.

    Args:
        state: encoder and training statistics in it are not used.
        scales: side of every scale in tokens.
        where: names the file in messages.
        chunk: images decoded at a time.
        compile_mode: see :func:`ppgen.generators.parts.networks.compile_network`.

    Attributes:
        table: (V, D), the vector of every token.

    Raises:
        UserError: weights missing, unexpected or of another shape.
    """

    def __init__(
        self,
        state: State,
        scales: Sequence[int],
        where: str,
        device: torch.device,
        dtype: torch.dtype,
        *,
        chunk: int,
        compile_mode: str,
    ) -> None:
        state = {name: tensor for name, tensor in state.items() if not _UNUSED.fullmatch(name)}
        table, last = state.get("quantize.embedding.weight"), state.get("decoder.conv_out.weight")
        if table is None or last is None or last.ndim != 4:
            raise UserError(
                f"{where} lacks quantize.embedding.weight or decoder.conv_out.weight; expected VAR's VQ-VAE"
            )
        values = table.shape[1]
        require_shapes(state, vqvae_shapes(last.shape[1], len(table), values), where, "VAR's VQ-VAE")
        network = read_decoder(state, device, dtype, fused=True)
        self._decoder = LatentDecoder(
            network, (3, UPSCALING), 1.0, 0.0, chunk=chunk, compile_mode=compile_mode
        )
        self._device = device
        self.scales = tuple(scales)
        self.table = table.to(device, torch.float32, copy=True)
        # The published layer averages its input and its convolution, which is one convolution.
        self._phis = []
        for name in _PHIS:
            weight = 0.5 * state[f"{name}.weight"].float()
            weight[:, :, 1, 1] += 0.5 * torch.eye(values)
            self._phis.append((weight.to(device), 0.5 * state[f"{name}.bias"].to(device, torch.float32)))

    def image_shape(self, side: int) -> tuple[int, int, int]:
        """(C, H, W) of the images of latents with this side."""
        return 3, side * UPSCALING, side * UPSCALING

    def begin(self, count: int) -> torch.Tensor:
        """Latents before the first scale, float32 (count, D, S, S)."""
        side = self.scales[-1]
        return torch.zeros(count, self.table.shape[1], side, side, device=self._device)

    def add(self, latents: torch.Tensor, tokens: torch.Tensor, i: int) -> torch.Tensor:
        """The latents with the tokens of scale i added.

        Args:
            latents: float32 (B, D, S, S).
            tokens: int64 (B, side * side) of scale i.
        """
        side, full = self.scales[i], self.scales[-1]
        found = self.table[tokens].transpose(1, 2).reshape(len(tokens), -1, side, side)
        if side != full:
            found = F.interpolate(found, size=(full, full), mode="bicubic")
        weight, bias = self._phis[_nearest_phi(i, len(self.scales))]
        return latents + F.conv2d(found, weight, bias, padding=1)

    def shrink(self, latents: torch.Tensor, i: int) -> torch.Tensor:
        """The latents at the resolution of scale i, as the network reads them: float32 (B, side * side, D)."""
        side = self.scales[i]
        return F.interpolate(latents, size=(side, side), mode="area").flatten(2).transpose(1, 2)

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """float32 (B, D, S, S) -> float32 (B, 3, 16 S, 16 S) in [-1, 1]."""
        return self._decoder(latents).clamp_(-1, 1)


def draw_tokens(logits: torch.Tensor, uniform: torch.Tensor, *, top_k: int, top_p: float) -> torch.Tensor:
    """One token for each position, by inverting the cumulated probability at that position's own random number.

    Args:
        logits: float32 (B, T, V).
        uniform: float64 (B, T) in [0, 1).
        top_k: only the k likeliest tokens; 0 for all.
        top_p: only the likeliest tokens that hold this share of the probability; 1 for all.

    Returns:
        int64 (B, T).
    """
    if 0 < top_k < logits.shape[-1]:
        least = logits.topk(top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -math.inf)
    if top_p < 1:
        rising, order = logits.sort(dim=-1)
        drop = cumulate(rising.double().softmax(-1)) <= 1 - top_p
        drop[..., -1] = False
        logits = logits.masked_fill(torch.zeros_like(drop).scatter_(-1, order, drop), -math.inf)
    reached = cumulate(logits.double().softmax(-1))
    below = reached <= uniform[..., None] * reached[..., -1:]
    return below.sum(-1).clamp_(max=logits.shape[-1] - 1)


def cumulate(x: torch.Tensor) -> torch.Tensor:
    """torch.cumsum over the last dimension, by two matrix products, which are deterministic on GPUs, where cumsum is not.

    Args:
        x: float64 (..., V).
    """
    size = x.shape[-1]
    width = math.ceil(math.sqrt(size))
    blocks = F.pad(x, (0, -size % width)).unflatten(-1, (-1, width))
    count = blocks.shape[-2]
    within = blocks @ torch.ones(width, width, dtype=x.dtype, device=x.device).triu()
    before = within[..., -1] @ torch.ones(count, count, dtype=x.dtype, device=x.device).triu(1)
    return (within + before[..., None]).flatten(-2)[..., :size]


def _nearest_phi(i: int, scales: int) -> int:
    """Which of the four convolutions scale i uses."""
    ticks = np.linspace(1 / 12, 11 / 12, 4)
    return int(np.argmin(np.abs(ticks - i / (scales - 1))))


def vqvae_shapes(unit: int = 160, vocabulary: int = 4096, values: int = 32) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every weight of VAR's VQ-VAE that decoding uses.

    Args:
        unit: width of the decoder at its highest resolution.
        vocabulary, values: number of tokens, and values in the vector of a token.
    """
    shapes: dict[str, tuple[int, ...]] = {"quantize.embedding.weight": (vocabulary, values)}
    for name in _PHIS:
        shapes |= {f"{name}.weight": (values, values, 3, 3), f"{name}.bias": (values,)}
    return shapes | decoder_shapes(unit, values, fused=True)
