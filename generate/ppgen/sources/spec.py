"""What the user asks for as a source, before anything is looked up or loaded."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ppcore.errors import UserError
from ppcore.kits import KIT_FILE, KITS, Kit, get_kit
from ppcore.storage import decode
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
        """The spec a plan was made with, on this machine's device; `source` replaces a path that has moved.

        Raises:
            UserError: the plan says something else in its place.
        """
        asked = {**hint, "device": device, **({"source": source} if source else {})}
        try:
            return decode(cls, json.dumps(asked))
        except ValueError as error:
            raise UserError(
                f"plan.json does not say how its source was loaded ({error}); restore it, or name the source with --source"
            ) from error


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
