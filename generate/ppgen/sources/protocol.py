"""The generator protocol, and a source as the families open it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from ppcore.errors import UserError
from ppcore.storage import decode


@runtime_checkable
class Generator(Protocol):
    """A pre-trained conditional generator G_s.

    Attributes:
        num_classes: K, width of the condition.
        class_names: K names, in the order of the condition's columns.
        resolution: side of the images in pixels.
        channels: 1 or 3.
        licence: of the weights, or `unknown`.
        revision: commit of the model repository, or `local`.
    """

    num_classes: int
    class_names: tuple[str, ...]
    resolution: int
    channels: int
    licence: str
    revision: str

    def sample(self, condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        """Sample images.

        Args:
            condition: float (B, K), rows of probabilities; one-hot for hard labels.
            seeds: int64 (B,); all randomness of sample i comes from `seeds[i]`.

        Returns:
            uint8 (B, C, H, W) on the generator's device.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Everything besides condition and seeds that the images depend on, in JSON types; it becomes part of the plan."""
        ...


class CheckedGenerator(Protocol):
    """An optional method of a generator that reports damaged images, so that they are not committed."""

    def sample_checked(
        self, condition: torch.Tensor, seeds: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The images of `sample`, and bool (B,) on any device: which of them contain NaN or infinity before rounding."""
        ...


def sample_checked(
    generator: Any, condition: torch.Tensor, seeds: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A generator's images and which of them are damaged; None if it is no :class:`CheckedGenerator`."""
    checked = getattr(generator, "sample_checked", None)
    return (generator.sample(condition, seeds), None) if checked is None else checked(condition, seeds)


@dataclass(frozen=True)
class Source:
    """Where a generator comes from, as its family opens it.

    Attributes:
        spec: as the user typed it.
        family: one of :data:`FAMILIES`.
        location: local directory, images of a bank, or `module:callable`.
        revision: commit hash, or `local`.
        class_names: empty if only the files of the model name the classes.
        sampling: sampling options of the user and, where these are missing, of the kit.
    """

    spec: str
    family: str
    location: str
    revision: str
    licence: str
    class_names: tuple[str, ...]
    sampling: Mapping[str, Any]
    trust_remote_code: bool = False


FAMILIES = ("unet", "dit", "consistency", "biggan", "text", "bank", "callable")
"""Kinds of model that :mod:`ppgen.generators` reads."""

Options = TypeVar("Options")


def read_options(kind: type[Options], source: Source) -> Options:
    """`source.sampling` as the options dataclass of a family.

    Raises:
        UserError: an option that the family does not have, or a value of another type.
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name in source.sampling:
        if name not in known:
            raise UserError(
                f"unknown sampling option {name!r} for {source.spec}; this family ({source.family}) has {', '.join(known)}"
            )
    try:
        return decode(kind, json.dumps(dict(source.sampling), default=str))
    except ValueError as error:
        raise UserError(
            f"a sampling option of {source.spec} is not of the right type ({error}); write for example --set steps=20"
        ) from error
