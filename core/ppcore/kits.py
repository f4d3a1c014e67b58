"""Kits: a named source, that is a generator, the classifier of the same label space, its class names and its licence."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ppcore.errors import UserError

DEFAULT_KIT = "dit-xl-2-256"
EMBEDDED = Path(__file__).parent / "embedded"
KIT_FILE = "kit.json"


@dataclass(frozen=True)
class Kit:
    """A source.

    Attributes:
        family: `unet`, `dit`, `consistency`, `biggan`, `text` or `callable` (see ppgen.generators).
        generator: local directory, hub id or `module:callable`.
        classifier: spec for :func:`ppcore.classifiers.load_classifier`; empty when the kit has none.
        class_names, class_ids: the K source classes; empty when the generator's own config names them.
        commercial: whether the licence allows commercial use of the weights.
        sampling: defaults for the sampler (solver, steps, guidance, ...).
        image_format: `jpg`, `png` or `webp`; `auto` lets the resolution decide.
    """

    name: str
    family: str
    generator: str
    classifier: str
    licence: str
    commercial: bool
    resolution: int
    channels: int = 3
    class_names: tuple[str, ...] = ()
    class_ids: tuple[str, ...] = ()
    revision: str | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    image_format: str = "auto"
    description: str = ""


def _imagenet(
    name: str,
    family: str,
    generator: str,
    licence: str,
    commercial: bool,
    resolution: int,
    text: str,
    **sampling: Any,
) -> Kit:
    return Kit(
        name,
        family,
        generator,
        "resnet50",
        licence,
        commercial,
        resolution,
        sampling=sampling,
        description=text,
    )


_HUB = (
    _imagenet(
        "dit-xl-2-256",
        "dit",
        "facebook/DiT-XL-2-256",
        "CC-BY-NC-4.0",
        False,
        256,
        "DiT-XL/2 (Peebles & Xie 2023), ImageNet",
    ),
    _imagenet(
        "dit-xl-2-512",
        "dit",
        "facebook/DiT-XL-2-512",
        "CC-BY-NC-4.0",
        False,
        512,
        "DiT-XL/2 (Peebles & Xie 2023), ImageNet",
    ),
    _imagenet(
        "cd-imagenet-64",
        "consistency",
        "openai/diffusers-cd_imagenet64_l2",
        "MIT",
        True,
        64,
        "consistency distillation (Song et al. 2023), ImageNet",
    ),
    _imagenet(
        "biggan-deep-256",
        "biggan",
        "biggan-deep-256",
        "MIT",
        True,
        256,
        "BigGAN-deep (Brock et al. 2019), ImageNet; give the published state dict with --source DIR",
    ),
)

KITS: dict[str, Kit | Path] = {"letters": EMBEDDED / "letters", **{kit.name: kit for kit in _HUB}}
"""Every kit known by name; a path is read when asked for."""


def list_kits() -> list[Kit]:
    """All named kits, the embedded one first."""
    return [get_kit(name) for name in KITS]


def get_kit(source: str) -> Kit:
    """A kit by name, or from a directory that holds kit.json.

    Raises:
        UserError: unknown name, or a damaged kit.json.
    """
    known = KITS.get(source)
    if isinstance(known, Kit):
        return known
    folder = known if known is not None else Path(source)
    if not (folder / KIT_FILE).is_file():
        raise UserError(
            f"unknown source {source!r}; expected one of {', '.join(KITS)}, or a directory with a {KIT_FILE} or a generator in it"
        )
    return _read_kit(folder, name=source if known is not None else "")


def _read_kit(folder: Path, name: str) -> Kit:
    try:
        fields = json.loads((folder / KIT_FILE).read_text())
        fields["class_names"] = tuple(fields.get("class_names", ()))
        fields["class_ids"] = tuple(fields.get("class_ids", ()))
        kit = Kit(**fields)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{folder / KIT_FILE} does not describe a kit ({error}); compare it with the embedded kit's"
        ) from error
    inside = {
        part: str(folder / path)
        for part in ("generator", "classifier")
        if (folder / (path := getattr(kit, part))).exists() and path
    }
    return replace(kit, name=name or kit.name, **inside)  # type: ignore[arg-type]
