"""The generator protocol, and a source resolved to something that can be opened."""

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
        licence: of the weights; `unknown` when nobody said.
        revision: commit of the model repository, or `local`.
    """

    num_classes: int
    class_names: tuple[str, ...]
    resolution: int
    channels: int
    licence: str
    revision: str

    def sample(self, condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        """Images of `condition`, float (B, K) probability rows, one-hot for hard labels.

        All randomness of sample i comes from `seeds[i]`, int64 (B,).

        Returns:
            uint8 (B, C, H, W) on the generator's device.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Everything besides condition and seeds that decides the images; JSON-serialisable, goes into the plan."""
        ...


class CheckedGenerator(Protocol):
    """What a generator may have beside the protocol, so that images which are none are drawn again instead of committed."""

    def sample_checked(
        self, condition: torch.Tensor, seeds: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What `sample` returns, and bool (B,) on any device: which images hold a NaN or an infinity before rounding."""
        ...


def sample_checked(
    generator: Any, condition: torch.Tensor, seeds: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A generator's images and which of them are bad; None where it is no :class:`CheckedGenerator` and cannot tell."""
    checked = getattr(generator, "sample_checked", None)
    return (generator.sample(condition, seeds), None) if checked is None else checked(condition, seeds)


@dataclass(frozen=True)
class Source:
    """Where a generator comes from, resolved to something that can be opened.

    Attributes:
        spec: what the user typed.
        family: a key of :data:`FAMILIES`.
        location: local directory, what names a bank's images, or `module:callable`.
        revision: commit hash, or `local`.
        class_names: empty when only the model's own files can tell.
        sampling: the user's options over the kit's.
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
        UserError: an option the family does not have, or a value of another type.
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
