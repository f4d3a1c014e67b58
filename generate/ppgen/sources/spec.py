"""What the user asks for as a source, before anything is looked up or loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ppcore.kits import KIT_FILE, KITS, Kit, get_kit
from ppgen.sources.protocol import Generator

BANK = "bank:"  # before what names a collection of labelled images
_OF_A_COMMAND = ("device", "trust_code", "pickles")


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
        trust_code: whether code that a kit or a model directory names may run.
        pickles: whether a hub repository's weights may be pickled.
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
    trust_code: bool = False
    pickles: bool = True

    def hint(self) -> dict[str, Any]:
        """What the plan says of how its source was loaded; what a later command makes of it is `planned_spec`'s matter."""
        return {name: value for name, value in asdict(self).items() if name not in _OF_A_COMMAND}


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


def is_code(source: str) -> bool:
    """Whether a source is the name of code, `module:callable`."""
    return ":" in source and not source.startswith(BANK) and not Path(source).exists()
