"""Class-conditional `UNet2DModel` + scheduler directories, pixel or latent; the embedded kit is one of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ppcore.errors import UserError
from ppgen.generators.parts.autoencoder import load_decoder
from ppgen.generators.parts.compilation import Compilation
from ppgen.generators.parts.components import load_component
from ppgen.generators.parts.convolution import rearrange
from ppgen.generators.parts.diffusion import Decode, DiffusionGenerator
from ppgen.generators.parts.labels import choose_names, count_classes, embed
from ppgen.generators.parts.options import DiffusionOptions
from ppgen.generators.parts.scheduler import load_scheduler, schedule_for
from ppgen.sampling import Schedule
from ppgen.sources import Generator, Source, read_options, weights_sha256


class UNetNetwork:
    """A `UNet2DModel` whose class table is taken out and applied here (see :class:`ppgen.generators.parts.diffusion.Network`).

    The module's own lookup is replaced by the identity, so that the embedded condition passes where label ids did.
    """

    def __init__(
        self, unet: Any, schedule: Schedule, null: int | None, device: torch.device, compilation: Compilation
    ) -> None:
        side = unet.config.sample_size
        self.shape = (unet.config.in_channels, side, side)
        self.has_null = null is not None
        self._table: torch.Tensor = unet.class_embedding.weight.detach()
        self._null = null
        unet.class_embedding = nn.Identity()
        unet = rearrange(unet).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._timesteps = torch.tensor(schedule.timesteps, dtype=torch.float32, device=device)
        self._dtype = self._table.dtype

        def forward(x: torch.Tensor, timestep: torch.Tensor, embedded: torch.Tensor) -> torch.Tensor:
            return unet(x, timestep, class_labels=embedded, return_dict=False)[0]

        self._forward = compilation.wrap(forward)

    def embed(self, condition: torch.Tensor) -> torch.Tensor:
        """(2B, D): embedded conditions, then the null label for each; (B, D) without a null label."""
        rows = embed(self._table, condition)
        if self._null is None:
            return rows
        return torch.cat([rows, self._table[self._null].expand_as(rows)])

    def predict(self, x: torch.Tensor, level: int, embedded: torch.Tensor, guided: bool) -> torch.Tensor:
        """See :meth:`ppgen.generators.parts.diffusion.Network.predict`."""
        x = x.to(self._dtype)
        x = torch.cat([x, x]) if guided else x
        output = self._forward(x, self._timesteps[level], embedded[: len(x)])
        return output[:, : self.shape[0]]  # models that learn their variance put it into further channels


def load(source: Source, device: torch.device, dtype: torch.dtype) -> Generator:
    """A generator from a directory with `unet/`, `scheduler/` and, for latent models, `vae/`.

    Raises:
        UserError: no class table, an unknown scheduler, or options that do not fit.
    """
    options = read_options(DiffusionOptions, source)
    folder = Path(source.location)
    unet = load_component("UNet2DModel", folder / "unet", device, dtype)
    scheduler = load_scheduler(folder / "scheduler")
    rows = class_rows(unet, source.spec)
    names = choose_names(options.class_names, source.class_names)
    num_classes, null = count_classes(rows, names, options.num_classes, source.spec)
    given = source.sampling
    options = replace(
        options,
        solver=given.get("solver", scheduler.solver),
        guidance=options.guidance if null is not None or "guidance" in given else 1.0,
    )
    compilation = Compilation(options.compile, device)
    schedule = schedule_for(scheduler, options, clip=not (folder / "vae").is_dir())
    network = UNetNetwork(unet, schedule, null, device, compilation)
    decode, image_shape = _decoder(folder, network.shape, options, dtype, compilation)
    return DiffusionGenerator(
        source,
        network,
        schedule,
        options,
        decode,
        num_classes=num_classes,
        class_names=names,
        image_shape=image_shape,
        device=device,
        compilation=compilation,
        details={
            "weights_sha256": weights_sha256(folder, "unet", "vae"),
            "dtype": str(dtype).removeprefix("torch."),
        },
    )


def class_rows(unet: Any, where: str) -> int:
    """Rows of the UNet's class table. Raises UserError when it has none."""
    if not isinstance(unet.class_embedding, nn.Embedding):
        raise UserError(
            f"{where} is not conditioned through a class table (class_embed_type={unet.config.class_embed_type!r}); expected a "
            "UNet2DModel with num_class_embeds"
        )
    return unet.class_embedding.num_embeddings


def _decoder(
    folder: Path,
    shape: tuple[int, int, int],
    options: DiffusionOptions,
    dtype: torch.dtype,
    compilation: Compilation,
) -> tuple[Decode, tuple[int, int, int]]:
    """(decode, (C, H, W) of the images)."""
    if (folder / "vae").is_dir():
        decoder = load_decoder(folder / "vae", compilation.device, dtype, options, compilation)
        return decoder, decoder.image_shape(shape)
    patch = options.patch
    if patch == 1:
        return torch.Tensor.float, shape
    channels, side, _ = shape
    if channels % (patch * patch):
        raise UserError(
            f"the network has {channels} channels, which patch={patch} does not divide into blocks; use patch=1"
        )
    image_shape = (channels // (patch * patch), side * patch, side * patch)
    return (lambda x: F.pixel_shuffle(x.float(), patch)), image_shape
