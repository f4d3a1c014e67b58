"""DiT pipelines: a latent diffusion transformer and its autoencoder, from any `DiTPipeline` directory or hub id."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ppgen.generators.dit.network import DiTNetwork
from ppgen.generators.parts.autoencoder import load_decoder
from ppgen.generators.parts.compilation import Compilation
from ppgen.generators.parts.components import load_component
from ppgen.generators.parts.diffusion import DiffusionGenerator
from ppgen.generators.parts.labels import choose_names
from ppgen.generators.parts.options import DiffusionOptions
from ppgen.generators.parts.scheduler import load_scheduler, schedule_for
from ppgen.sources import Generator, Source, read_config, read_options, weights_sha256


@dataclass(frozen=True)
class _Index:
    """What is read of model_index.json: class names by number."""

    id2label: dict[str, str] | None = None


def load(source: Source, device: torch.device, dtype: torch.dtype) -> Generator:
    """A generator from `transformer/`, `vae/` and `scheduler/`; DPM-Solver++(2M), 20 steps, guidance 1.5 in an interval.

    Raises:
        UserError: files missing or damaged, options that do not fit.
    """
    folder = Path(source.location)
    options = read_options(DiffusionOptions, source)
    options = replace(options, solver=source.sampling.get("solver", "dpmpp_2m"))
    compilation = Compilation(options.compile, device)
    schedule = schedule_for(load_scheduler(folder / "scheduler"), options, clip=False)
    transformer = load_component("DiTTransformer2DModel", folder / "transformer", device, dtype)
    # The pipeline hard-codes 1000 as the null label; it is the row after the last class, however many there are.
    num_classes = int(transformer.config.num_embeds_ada_norm)
    network = DiTNetwork(transformer, schedule, compilation)
    decoder = load_decoder(folder / "vae", device, dtype, options, compilation)
    return DiffusionGenerator(
        source,
        network,
        schedule,
        options,
        decoder,
        num_classes=num_classes,
        class_names=choose_names(options.class_names, source.class_names, _names(folder, num_classes)),
        image_shape=decoder.image_shape(network.shape),
        device=device,
        compilation=compilation,
        details={
            "weights_sha256": weights_sha256(folder, "transformer", "vae"),
            "dtype": str(dtype).removeprefix("torch."),
        },
    )


def _names(folder: Path, num_classes: int) -> tuple[str, ...]:
    """Class names of the pipeline's `id2label`, addressed by number: as words they are not unique ("crane")."""
    index = folder / "model_index.json"
    labels = read_config(index, _Index).id2label if index.is_file() else None
    return () if labels is None else tuple(labels.get(str(k), str(k)) for k in range(num_classes))
