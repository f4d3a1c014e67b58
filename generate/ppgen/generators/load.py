"""Opens a source as a generator of its family."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ppcore.classifiers import import_callable
from ppcore.errors import UserError
from ppcore.platforms import keep_freed_memory
from ppgen.generators import bank, biggan, dit, lightningdit, sit, text, unet, var
from ppgen.sources import (
    Generator,
    Source,
    SourceSpec,
    choose_device,
    choose_dtype,
    resolve_source,
    sample_checked,
)

_NEEDED = ("num_classes", "resolution", "channels", "sample")


class CustomGenerator:
    """The user's object with the optional parts of the protocol filled in."""

    def __init__(self, inner: Any, source: Source) -> None:
        self._inner, self._source = inner, source
        self.num_classes: int = int(inner.num_classes)
        names = getattr(inner, "class_names", None) or source.class_names or range(self.num_classes)
        self.class_names = tuple(str(name) for name in names)
        self.resolution: int = int(inner.resolution)
        self.channels: int = int(inner.channels)
        self.licence: str = str(getattr(inner, "licence", source.licence))
        self.revision: str = str(getattr(inner, "revision", source.revision))

    def sample(self, condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        """See :meth:`ppgen.sources.protocol.Generator.sample`."""
        return self._inner.sample(condition, seeds)

    def sample_checked(
        self, condition: torch.Tensor, seeds: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See :func:`ppgen.sources.protocol.sample_checked`: the object's own check where it has one."""
        return sample_checked(self._inner, condition, seeds)

    def describe(self) -> dict[str, Any]:
        """See :meth:`ppgen.sources.protocol.Generator.describe`; what the object's `describe` returns comes first."""
        own = self._inner.describe() if hasattr(self._inner, "describe") else {}
        return {
            "family": "callable",
            "callable": self._source.location,
            "sampling": dict(self._source.sampling),
            **own,
        }


def load_custom(source: Source, device: torch.device, dtype: torch.dtype) -> Generator:
    """Call `module:callable` with the sampling options, and with `device` and `dtype` if it accepts them.

    Raises:
        UserError: it cannot be imported, does not take a sampling option, or returns something else.
    """
    factory = import_callable(source.location)
    accepted = inspect.signature(factory).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    for name in source.sampling:
        if not takes_all and name not in accepted:
            raise UserError(
                f"{source.location} does not take the sampling option {name!r}; it takes {', '.join(accepted) or 'none'}"
            )
    offered = {"device": device, "dtype": dtype, **source.sampling}
    made = factory(**{name: value for name, value in offered.items() if takes_all or name in accepted})
    missing = [name for name in _NEEDED if not hasattr(made, name)]
    if missing:
        raise UserError(
            f"{source.location} returned a {type(made).__name__} without {', '.join(missing)}; return an object with "
            "num_classes, resolution, channels and sample(condition, seeds)"
        )
    return CustomGenerator(made, source)


LOADERS: dict[str, Callable[[Source, torch.device, torch.dtype], Generator]] = {
    "unet": unet.load,
    "dit": dit.load,
    "sit": sit.load,
    "lightningdit": lightningdit.load,
    "var": var.load,
    "consistency": unet.load,
    "biggan": biggan.load,
    "text": text.load,
    "bank": bank.load,
    "callable": load_custom,
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
