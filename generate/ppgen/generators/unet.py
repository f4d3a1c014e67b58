"""Class-conditional `UNet2DModel` + scheduler directories, for pixels or latents: diffusion, flow and consistency models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ppcore.errors import UserError
from ppgen.generators.parts.convolution import rearrange
from ppgen.generators.parts.diffusion import DiffusionGenerator, DiffusionOptions
from ppgen.generators.parts.family import choose_names, embed
from ppgen.generators.parts.networks import (
    PixelDecoder,
    compile_network,
    load_component,
    load_decoder,
    require_square,
)
from ppgen.generators.parts.scheduler import load_scheduler
from ppgen.sampling import Schedule
from ppgen.sources import Generator, Source, read_options

_IMAGENET = 1000  # classes


class UNetNetwork:
    """A `UNet2DModel` as a :class:`ppgen.generators.parts.diffusion.Network`. Changes `unet`; do not use it afterwards.

    The class table is taken out of the module and applied to soft labels in :meth:`embed`. In the module the identity replaces it, so
    the module accepts embedded conditions in place of label ids.

    Args:
        null: row of the null label in the class table; None without one.
    """

    def __init__(
        self, unet: Any, schedule: Schedule, null: int | None, device: torch.device, compile_mode: str
    ) -> None:
        side = require_square(unet.config.sample_size, "unet")
        self.shape = (unet.config.in_channels, side, side)
        self.has_null = null is not None
        self._table: torch.Tensor = unet.class_embedding.weight.detach()
        self.tables: Sequence[torch.Tensor] = [self._table]
        self._null = null
        unet.class_embedding = nn.Identity()
        unet = rearrange(unet).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._timesteps = torch.tensor(schedule.timesteps, dtype=torch.float32, device=device)

        def forward(x: torch.Tensor, timestep: torch.Tensor, embedded: torch.Tensor) -> torch.Tensor:
            return unet(x, timestep, class_labels=embedded, return_dict=False)[0]

        self._forward = compile_network(forward, compile_mode, device)

    def embed(self, condition: torch.Tensor, keep_norm: bool = False) -> torch.Tensor:
        """(2B, D): embedded conditions, then the null label for each; (B, D) without a null label."""
        rows = embed(self._table, condition, keep_norm)
        if self._null is None:
            return rows
        return torch.cat([rows, self._table[self._null].expand_as(rows)])

    def predict(self, x: torch.Tensor, level: int, embedded: torch.Tensor, guided: bool) -> torch.Tensor:
        """See :meth:`ppgen.generators.parts.diffusion.Network.predict`."""
        x = x.to(self._table.dtype)
        x = torch.cat([x, x]) if guided else x
        output = self._forward(x, self._timesteps[level], embedded[: len(x)])
        return output[:, : self.shape[0]]  # models that learn their variance put it into further channels


def load(source: Source, device: torch.device, dtype: torch.dtype) -> Generator:
    """A generator from a directory with `unet/`, `scheduler/` and, for latent models, `vae/`.

    Consistency models take one step unless `steps` or `levels` say otherwise, and no guidance: distillation put it into the model.

    Raises:
        UserError: files missing or damaged, no class table, an unknown scheduler, or options that do not fit.
    """
    options, given = read_options(DiffusionOptions, source), source.sampling
    folder = Path(source.location)
    unet = load_component("UNet2DModel", folder / "unet", device, dtype)
    scheduler = load_scheduler(folder / "scheduler")
    names = choose_names(options.class_names, source.class_names)
    num_classes, null = _count_classes(unet, options.num_classes or len(names), source.spec)
    steps = options.steps
    if source.family == "consistency":
        steps = len(options.levels) if options.levels else given.get("steps", 1)
    guided = null is not None and source.family != "consistency"
    options = replace(
        options,
        solver=given.get("solver", scheduler.solver),
        steps=steps,
        guidance=options.guidance if guided or "guidance" in given else 1.0,
    )
    latent = (folder / "vae").is_dir()
    schedule = scheduler.schedule(options, clip=not latent)
    network = UNetNetwork(unet, schedule, null, device, options.compile)
    decoder = (
        load_decoder(folder / "vae", device, dtype, chunk=options.decode_batch, compile_mode=options.compile)
        if latent
        else PixelDecoder(options.patch)
    )
    return DiffusionGenerator(
        source,
        network,
        schedule,
        options,
        decoder,
        num_classes=num_classes,
        class_names=names,
        device=device,
        dtype=dtype,
        weights=("unet", "vae"),
    )


def _count_classes(unet: Any, expected: int, where: str) -> tuple[int, int | None]:
    """(K, row of the null label or None) of the UNet's class table.

    A table that is one row longer than the classes has the null label of classifier-free guidance as its last row; without another
    number one of 1,001 rows is taken for ImageNet's 1,000 classes and that label.

    Args:
        expected: K, or 0 for one class for each row.

    Raises:
        UserError: no class table, or one with fewer rows than classes or more than one extra row.
    """
    if not isinstance(unet.class_embedding, nn.Embedding):
        raise UserError(
            f"{where} is not conditioned through a class table (class_embed_type={unet.config.class_embed_type!r}); "
            "expected a UNet2DModel with num_class_embeds"
        )
    rows = unet.class_embedding.num_embeddings
    wanted = expected or (_IMAGENET if rows == _IMAGENET + 1 else rows)
    if rows not in (wanted, wanted + 1):
        raise UserError(
            f"{where} embeds {rows} classes but {wanted} are expected, or {wanted + 1} rows with the null label; "
            "set the sampling option num_classes"
        )
    return wanted, (wanted if rows == wanted + 1 else None)
