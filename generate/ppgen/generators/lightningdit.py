"""LightningDiT (Yao et al. 2025): a SiT with RMS norms, gated feed-forward layers and rotary positions, in the latents of VA-VAE.

A directory holds the published files: `lightningdit-xl-imagenet256-800ep.pt`, `vavae-imagenet256-f16d32-dinov2.pt` and
`latents_stats.pt`. Where the published sampler guides three of the 32 latent channels, this one guides all.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ppcore.classifiers import read_weights
from ppgen.generators.parts.decoder import UPSCALING, decoder_shapes, read_decoder
from ppgen.generators.parts.diffusion import DiffusionGenerator, DiffusionOptions
from ppgen.generators.parts.family import choose_names
from ppgen.generators.parts.networks import LatentDecoder
from ppgen.generators.parts.published import State, require_shapes
from ppgen.generators.parts.scheduler import Scheduler
from ppgen.generators.sit import SiTConfig, read_network, require_sit
from ppgen.sampling import Schedule
from ppgen.sources import Generator, Source, find_weights, read_options

_STATISTICS = "latents_stats.pt"
_SHIFT = 0.3  # of the published samplers: time t becomes shift * t / (1 + (shift - 1) * t)


def load(source: Source, device: torch.device, dtype: torch.dtype) -> Generator:
    """A generator from the published files.

    Defaults: DPM-Solver++(2M), 20 steps, guidance 1.5 in an interval.

    Raises:
        UserError: files missing or damaged, weights that are not all there or do not fit, options that do not fit.
    """
    folder = Path(source.location)
    options = read_options(DiffusionOptions, source)
    options = replace(options, solver=source.sampling.get("solver", "dpmpp_2m"))
    file, decoder_file = (find_weights(folder, family, source.files) for family in ("lightningdit", "vavae"))
    state, schedule = read_weights(file, mmap=True), make_schedule(options)
    shape, _ = require_sit(state, SiTConfig(), str(file))
    decoder = read_vavae(
        read_weights(decoder_file, mmap=True),
        read_weights(folder / _STATISTICS),
        shape[0],
        f"{decoder_file.name} and {_STATISTICS} in {folder}",
        device,
        dtype,
        chunk=options.decode_batch,
        compile_mode=options.compile,
    )
    return DiffusionGenerator(
        source,
        read_network(
            state, SiTConfig(), schedule, shape, device=device, dtype=dtype, compile_mode=options.compile
        ),
        schedule,
        options,
        decoder,
        num_classes=len(state["y_embedder.embedding_table.weight"]) - 1,
        class_names=choose_names(options.class_names, source.class_names),
        device=device,
        dtype=dtype,
        weights=(*(path.relative_to(folder).as_posix() for path in (file, decoder_file)), _STATISTICS),
    )


def make_schedule(options: DiffusionOptions) -> Schedule:
    """The straight path from noise at time 0 to data at time 1, at the published spacing; the network returns data - noise.

    Raises:
        UserError: a solver that does not fit.
    """
    config = {"num_train_timesteps": 1, "invert_sigmas": True, "shift": 1 / _SHIFT}
    return Scheduler("FlowMatchEulerDiscreteScheduler", config).schedule(options, clip=False)


def read_vavae(
    state: State,
    statistics: State,
    channels: int,
    where: str,
    device: torch.device,
    dtype: torch.dtype,
    **more: Any,
) -> LatentDecoder:
    """The decoder of VA-VAE; in float32 in place of float16, whose range may be too small.

    Args:
        state: what is not of its decoder (encoder, losses, vision model) is not used.
        statistics: `mean` and `std` of every channel of the latents, (1, C, 1, 1).
        channels: C.
        where: names the files in messages.
        more: chunk and compile_mode of :class:`LatentDecoder`.

    Raises:
        UserError: weights missing, unexpected or of another shape.
    """
    state = {name: t for name, t in state.items() if name.startswith(("decoder.", "post_quant_conv."))}
    last = state.get("decoder.conv_out.weight")
    unit = last.shape[1] if last is not None and last.ndim == 4 else 128
    require_shapes(state, decoder_shapes(unit, channels, fused=False), where, "VA-VAE")
    require_shapes(statistics, dict.fromkeys(("mean", "std"), (1, channels, 1, 1)), where, "VA-VAE's latents")
    dtype = torch.float32 if dtype == torch.float16 else dtype
    std, mean = (statistics[name].to(device, torch.float32) for name in ("std", "mean"))
    network = read_decoder(state, device, dtype, fused=False)
    return LatentDecoder(network, (3, UPSCALING), std, mean, **more)
