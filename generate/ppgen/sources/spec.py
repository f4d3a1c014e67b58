"""Opening what samples are made with: the generator, and the source classifier beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ppcore.classifiers import Classifier, load_classifier
from ppcore.errors import UserError
from ppcore.kits import KIT_FILE, KITS, Kit, get_kit
from ppgen.sources.devices import choose_device

if TYPE_CHECKING:
    from ppgen.sources.protocol import Generator


@dataclass(frozen=True)
class SourceSpec:
    """How to load the source, anywhere: picklable, no tensors.

    Attributes:
        source: kit name, directory, hub id or `module:callable`.
        device: `auto`, `cpu`, `cuda`, ...
        dtype: `float32`, `bfloat16`, ..., None for the family's default.
        sampling: overrides of the kit's sampler settings.
        revision: of a hub repository.
        trust_remote_code: whether code shipped with a model may run.
        classifier: spec of the source classifier; None for the kit's own.
        class_map: classifier class -> generator class, for a classifier of another label space.
    """

    source: str
    device: str = "auto"
    dtype: str | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    revision: str | None = None
    trust_remote_code: bool = False
    classifier: str | None = None
    class_map: dict[str, str] | None = None

    def hint(self) -> dict[str, Any]:
        """What the plan remembers of how its source was loaded, so that `verify --regenerate` need not be told again."""
        return {name: value for name, value in asdict(self).items() if name != "device"}

    @classmethod
    def from_hint(cls, hint: dict[str, Any], device: str = "auto", source: str | None = None) -> SourceSpec:
        """The spec a plan was made with, on this machine's device; `source` replaces a path that has moved."""
        known = {field.name: hint[field.name] for field in fields(cls) if field.name in hint}
        return cls(**{**known, "device": device, **({"source": source} if source else {})})


def describe_source(generator: Generator, spec: SourceSpec) -> dict[str, Any]:
    """The plan's `source`: what decides the bytes of a sample beside condition and seed, in JSON types."""
    return {
        **generator.describe(),
        "name": source_name(spec.source),
        "class_names": [str(name) for name in generator.class_names],
        "licence": generator.licence,
        "revision": generator.revision,
    }


def source_kit(source: str) -> Kit | None:
    """The kit that `source` names; None for a plain model directory, a hub id or a callable."""
    return get_kit(source) if source in KITS or (Path(source) / KIT_FILE).is_file() else None


def source_name(source: str) -> str:
    """A short name fit for a directory: the kit's, else the last part of the path or of the callable."""
    kit = source_kit(source)
    if kit is not None:
        return kit.name
    last = source.rstrip("/").rsplit("/", 1)[-1]
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in last).strip(".-") or "source"


def open_classifier(spec: SourceSpec, num_classes: int, class_names: Sequence[str] = ()) -> Classifier:
    """The source classifier on the source's device, its outputs in the order of the generator's classes.

    Args:
        num_classes: of the generator.
        class_names: the generator's; a classifier file without names is taken to have them in this order.

    Raises:
        UserError: none is known, it cannot be had, or its label space is not the generator's and no class map joins them.
    """
    kit = source_kit(spec.source)
    name = spec.classifier or (kit.classifier if kit is not None else "")
    if not name:
        raise UserError(
            f"source {spec.source!r} has no classifier of its own; name one for the same {num_classes} classes with --classifier"
        )
    classifier = load_classifier(name)
    if classifier.spec.num_classes != num_classes and spec.class_map is None:
        raise UserError(
            f"classifier {name!r} has {classifier.spec.num_classes} classes and source {spec.source!r} has {num_classes}; give "
            f"the classifier of the same label space with --classifier, or a class mapping with --class-map"
        )
    nameless = classifier.spec.class_names == tuple(str(k) for k in range(num_classes))
    if class_names and (spec.class_map is not None or not nameless):
        from ppgen.sources.alignment import aligned

        classifier = aligned(classifier, class_names, spec.class_map)
    return classifier.to(choose_device(spec.device))


def describe_classifier(classifier: Classifier) -> dict[str, Any]:
    """Architecture and sha256 of the weights: the plan's word for a classifier."""
    digest = hashlib.sha256()
    for name, tensor in sorted(classifier.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    spec = classifier.spec
    return {"arch": spec.arch, "resolution": spec.resolution, "sha256": digest.hexdigest()}
