"""Opens a source as a generator of its family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ppcore.errors import UserError
from ppcore.platforms import keep_freed_memory
from ppgen.generators import bank, biggan, custom, dit, text, unet
from ppgen.sources import Generator, Source, SourceSpec, choose_device, choose_dtype, resolve_source

LOADERS: dict[str, Callable[[Source, torch.device, torch.dtype], Generator]] = {
    "unet": unet.load,
    "dit": dit.load,
    "consistency": unet.load,
    "biggan": biggan.load,
    "text": text.load,
    "bank": bank.load,
    "callable": custom.load,
}
"""Family (a value of :data:`ppgen.sources.FAMILIES`) -> the function that opens a source of it."""


def open_generator(spec: SourceSpec) -> Generator:
    """Load the generator.

    Raises:
        UserError: the source is unknown, its weights cannot be read or fetched, an option does not fit it, or diffusers is missing.
    """
    source = resolve_source(spec)
    device = choose_device(spec.device)
    if device.type == "cpu":
        keep_freed_memory()
    try:
        return LOADERS[source.family](source, device, choose_dtype(spec.dtype, device))
    except ModuleNotFoundError as error:
        if error.name != "diffusers":
            raise
        raise UserError(
            f"{spec.source} needs the package diffusers, which is not installed; pip install 'pptransfer[generate]'"
        ) from error


def load_generator(
    source: str,
    *,
    device: str = "auto",
    dtype: str | None = None,
    sampling: Mapping[str, Any] | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Generator:
    """A generator, ready to sample.

    Args:
        source: a kit's name or directory; a model directory; a hub id `owner/name`; or `module:callable`.
        device: `auto` uses a GPU if the machine has one.
        dtype: `float32`, `bfloat16` or `float16`; by default bfloat16 on GPUs that support it, float32 elsewhere.
        sampling: options that replace the kit's and the family's defaults (solver, steps, guidance, ...).
        revision: branch, tag or commit of a hub repository.
        trust_remote_code: run Python code shipped in the model's repository; a hub id then needs a pinned commit.

    Raises:
        UserError: see :func:`open_generator`.
    """
    return open_generator(
        SourceSpec(
            source,
            device=device,
            dtype=dtype,
            sampling=dict(sampling or {}),
            revision=revision,
            trust_remote_code=trust_remote_code,
        )
    )
