"""Loading, compiling and decoding with the networks of a diffusers directory. No code of the directory runs."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ppcore.errors import UserError, first_line
from ppgen.generators.parts.convolution import rearrange
from ppgen.generators.parts.published import require_complete
from ppgen.sources import read_config
from ppgen.sources.models import find_variant, lost_weights

_FORMER_NAMES = {"DiTTransformer2DModel": "Transformer2DModel"}
"""Class -> the name under which earlier versions of diffusers saved it."""
COMPILE_MODES = ("none", "default", "graphs")

Forward = Callable[..., torch.Tensor]


def load_component(
    class_name: str, folder: Path, device: torch.device, dtype: torch.dtype, *, library: str = "diffusers"
) -> Any:
    """A model of diffusers or transformers from its directory, in evaluation mode, without gradients.

    Safetensors are preferred; weights of one variant alone (`fp16`) are taken; a pickle is read with weights_only.

    Raises:
        UserError: files missing or damaged; a model of another class; weights missing, unexpected or of another shape.
    """
    from diffusers.utils import logging  # importing diffusers takes seconds, and only these families need it

    logging.set_verbosity_error()
    config = folder / "config.json"
    written = read_config(config, dict[str, Any]).get("_class_name") if config.is_file() else None
    if written not in (None, class_name, _FORMER_NAMES.get(class_name)):
        raise UserError(f"{folder} holds the model {written}; expected {class_name}")
    try:
        model, loaded = getattr(importlib.import_module(library), class_name).from_pretrained(
            folder,
            dtype=dtype,
            variant=find_variant(folder),
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are among the findings below
        )
    except Exception as error:  # diffusers, safetensors and pickle each raise exceptions of their own
        raise UserError(
            f"{folder} cannot be loaded as {class_name} ({first_line(error)}); expected a directory written by save_pretrained"
        ) from error
    derived = {name for name, _ in model.named_buffers()}  # earlier versions of the libraries stored them
    require_complete(
        set(loaded["missing_keys"]) | lost_weights(folder),
        set(loaded["unexpected_keys"]) - derived,
        loaded["mismatched_keys"],
        str(folder),
        class_name,
    )
    return model.to(device).eval().requires_grad_(False)


def require_square(size: Any, where: str) -> int:
    """The side that a configuration's `sample_size` says, a number or a pair.

    Raises:
        UserError: there is none, or the sides differ.
    """
    sides = set(size) if isinstance(size, list | tuple) else {size}
    if len(sides) != 1 or not isinstance(side := sides.pop(), int):
        raise UserError(
            f"{where} has sample_size={size} in its config.json; expected one whole number, the side of the square that the network "
            "was trained on"
        )
    return side


def compile_network(forward: Forward, mode: str, device: torch.device) -> Forward:
    """The function, compiled as the sampling option `compile` says.

    Args:
        forward: takes and returns tensors, of the same shapes in every call.
        mode: `none`; `default`, torch.compile; `graphs`, torch.compile with CUDA graphs, which save starting every kernel by itself.

    Raises:
        UserError: an unknown mode, or no compiler on this machine.
    """
    if mode not in COMPILE_MODES:
        raise UserError(f"unknown sampling option compile={mode!r}; choose {', '.join(COMPILE_MODES)}")
    if mode == "none":
        return forward
    if missing := missing_compiler(device):
        raise UserError(
            f"compile={mode} needs a {missing} for {device.type} and none was found; install one or use compile=none"
        )
    if mode == "default":
        return torch.compile(forward, dynamic=False)
    recorded = torch.compile(forward, dynamic=False, mode="reduce-overhead")
    return lambda *inputs: recorded(*inputs).clone()  # the next replay overwrites what a graph returned


def missing_compiler(device: torch.device) -> str | None:
    """`C compiler` or `C++ compiler` where torch.compile needs one for the device and this machine has none, else None."""
    if device.type == "cuda":  # compiles the launchers of the kernels
        names, what = [os.environ.get("CC", ""), "gcc", "cc", "clang"], "C compiler"
    else:
        names, what = [os.environ.get("CXX", "g++")], "C++ compiler"
    return None if any(name and shutil.which(name) for name in names) else what


@dataclass(frozen=True)
class _Autoencoder:
    """The field of an autoencoder's config.json that is read before its weights."""

    force_upcast: bool = True


class LatentDecoder:
    """Latents -> images, some at a time to bound the memory.

    Args:
        network: float (B, C, h, w) -> (B, C', H, W), with weights in the order channels_last.
        shape: C', and pixels on the side of one latent.
        scale, shift: of the latents that the network expects: scale * latents + shift.
        chunk: images decoded at a time.
        compile_mode: see :func:`compile_network`.
    """

    def __init__(
        self,
        network: nn.Module,
        shape: tuple[int, int],
        scale: float | torch.Tensor,
        shift: float | torch.Tensor,
        *,
        chunk: int,
        compile_mode: str,
    ) -> None:
        self._network, self._shape, self._chunk = network, shape, chunk
        self._scale, self._shift = scale, shift
        weight = next(network.parameters())
        self._dtype = weight.dtype
        self._forward = compile_network(self._decode_chunk, compile_mode, weight.device)

    def image_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """(C, H, W) of the images decoded from latents of this shape."""
        channels, factor = self._shape
        return channels, shape[1] * factor, shape[2] * factor

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """float32 (B, C, h, w) -> float32 (B, C', H, W), nominally in [-1, 1]."""
        latents = latents * self._scale + self._shift
        return torch.cat([self._forward(chunk) for chunk in latents.split(self._chunk)])

    def _decode_chunk(self, latents: torch.Tensor) -> torch.Tensor:
        return self._network(latents.to(self._dtype, memory_format=torch.channels_last)).float()


def load_decoder(
    folder: Path, device: torch.device, dtype: torch.dtype, *, chunk: int, compile_mode: str
) -> LatentDecoder:
    """The decoder of an `AutoencoderKL`; in float32 in place of float16 where its configuration has `force_upcast`.

    Args:
        folder: the autoencoder's directory.

    Raises:
        UserError: missing or damaged files.
    """
    # Its values may be too large for float16; without an entry diffusers assumes so.
    if dtype == torch.float16 and read_config(folder / "config.json", _Autoencoder).force_upcast:
        dtype = torch.float32
    vae = load_component("AutoencoderKL", folder, device, dtype)
    network = rearrange(nn.Sequential(vae.post_quant_conv or nn.Identity(), vae.decoder))
    return LatentDecoder(
        network.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        (vae.config.out_channels, 2 ** (len(vae.config.block_out_channels) - 1)),
        1.0 / vae.config.scaling_factor,
        vae.config.shift_factor or 0.0,
        chunk=chunk,
        compile_mode=compile_mode,
    )


class PixelDecoder:
    """The output of a network that makes pixels -> images; blocks of patch x patch pixels lie in the channels."""

    def __init__(self, patch: int = 1) -> None:
        self._patch = patch

    def image_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """(C, H, W) of the images. Raises UserError where the channels do not divide into blocks."""
        channels, height, width = shape
        if channels % self._patch**2:
            raise UserError(
                f"the network has {channels} channels, which patch={self._patch} does not divide into blocks; use patch=1"
            )
        return channels // self._patch**2, height * self._patch, width * self._patch

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """float (B, p * p * C, H, W) -> float32 (B, C, p * H, p * W)."""
        return F.pixel_shuffle(x.float(), self._patch)
