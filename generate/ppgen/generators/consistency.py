"""Consistency models: one or two evaluations an image, from any `ConsistencyModelPipeline` directory or hub id."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from ppgen.generators.parts.compilation import Compilation
from ppgen.generators.parts.components import load_component
from ppgen.generators.parts.diffusion import DiffusionGenerator
from ppgen.generators.parts.labels import choose_names, count_classes
from ppgen.generators.parts.options import DiffusionOptions
from ppgen.generators.parts.scheduler import load_scheduler, schedule_for
from ppgen.generators.unet import UNetNetwork, class_rows
from ppgen.sources import Generator, Source, read_options, weights_sha256


def load(source: Source, device: torch.device, dtype: torch.dtype) -> Generator:
    """A generator from `unet/` and `scheduler/`; one step unless `steps` or `levels` say otherwise.

    Distilled models carry their guidance inside, so none is applied.

    Raises:
        UserError: files missing or damaged, no class table, options that do not fit.
    """
    folder = Path(source.location)
    given = source.sampling
    options = read_options(DiffusionOptions, source)
    options = replace(
        options,
        solver=given.get("solver", "consistency"),
        steps=len(options.levels) if options.levels else given.get("steps", 1),
        guidance=given.get("guidance", 1.0),
    )
    compilation = Compilation(options.compile, device)
    schedule = schedule_for(load_scheduler(folder / "scheduler"), options, clip=True)
    unet = load_component("UNet2DModel", folder / "unet", device, dtype)
    rows = class_rows(unet, source.spec)
    names = choose_names(options.class_names, source.class_names)
    num_classes, null = count_classes(rows, names, options.num_classes, source.spec)
    network = UNetNetwork(unet, schedule, null, device, compilation)
    return DiffusionGenerator(
        source,
        network,
        schedule,
        options,
        torch.Tensor.float,
        num_classes=num_classes,
        class_names=names,
        image_shape=network.shape,
        device=device,
        compilation=compilation,
        details={
            "weights_sha256": weights_sha256(folder, "unet"),
            "dtype": str(dtype).removeprefix("torch."),
        },
    )
