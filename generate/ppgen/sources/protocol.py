"""The generator protocol, and a source as the families open it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch

from ppcore.classifiers import published_class_names
from ppcore.errors import UserError
from ppcore.kits import KIT_FILE, KITS, Kit, get_kit, is_repository
from ppcore.places import local_path
from ppcore.storage import decode
from ppgen.sources.models import download, download_files, find_family, find_licence


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


def sample_checked(
    generator: Any, condition: torch.Tensor, seeds: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A generator's images, and bool (B,) on any device: which of them contain NaN or infinity before rounding.

    The second is None if the generator has no method `sample_checked(condition, seeds)` that returns both.
    """
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
        files: the files of `location` that belong to the model; empty for all.
    """

    spec: str
    family: str
    location: str
    revision: str
    licence: str
    class_names: tuple[str, ...]
    sampling: Mapping[str, Any]
    trust_remote_code: bool = False
    files: tuple[str, ...] = ()


FAMILIES = ("unet", "dit", "sit", "lightningdit", "var", "consistency", "biggan", "text", "bank", "callable")
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


BANK = "bank:"  # prefix of a collection of labelled images as a source
_NOT_IN_PLAN = ("device", "trust_code", "pickles")


@dataclass(frozen=True)
class SourceSpec:
    """The source as the user asks for it; can be pickled and sent to workers.

    Attributes:
        source: kit name, directory, hub id or `module:callable`.
        device: `auto`, `cpu`, `cuda`, ...
        dtype: `float32`, `bfloat16`, ..., None for the family's default.
        sampling: sampling options that replace those of the kit.
        revision: of a hub repository.
        trust_remote_code: whether Python code in a model repository may run.
        classifier: spec of the source classifier; None for that of the kit.
        trust_code: whether code that a kit or a model directory names may run.
        pickles: whether weights of a hub repository may be pickled.
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", local_path(self.source))

    def hint(self) -> dict[str, Any]:
        """The field `load` of a plan; :func:`ppgen.sources.planned_spec` reads it."""
        return {name: value for name, value in asdict(self).items() if name not in _NOT_IN_PLAN}


def describe_source(generator: Generator, spec: SourceSpec) -> dict[str, Any]:
    """The field `source` of a plan: what the bytes of a sample depend on besides condition and seed, in JSON types."""
    return {
        **generator.describe(),
        "name": source_name(spec.source),
        "class_names": [str(name) for name in generator.class_names],
        "licence": generator.licence,
        "revision": generator.revision,
    }


def source_kit(source: str) -> Kit | None:
    """The kit that `source` names; None for a model directory without kit.json, a hub id or a callable."""
    return get_kit(source) if source in KITS or (Path(source) / KIT_FILE).is_file() else None


def source_name(source: str) -> str:
    """A short name that can be part of a directory name: of the kit, else the last part of the path or callable."""
    kit = source_kit(source)
    if kit is not None:
        return kit.name
    last = source.rstrip("/").rsplit("/", 1)[-1]
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in last).strip(".-") or "source"


def is_code(source: str) -> bool:
    """Whether a source is `module:callable`."""
    return ":" in source and not source.startswith(BANK) and not Path(source).exists()


def resolve_source(spec: SourceSpec) -> Source:
    """Find the model that `spec` names; download it from the hub if needed.

    Raises:
        UserError: unknown, cannot be downloaded, or no family reads it.
    """
    kit = source_kit(spec.source)
    if kit is not None:
        return _resolve_kit(spec, kit)
    if spec.source.startswith(BANK):
        return Source(
            spec.source, "bank", spec.source.removeprefix(BANK), "local", "unknown", (), spec.sampling
        )
    if is_code(spec.source):
        return Source(spec.source, "callable", spec.source, "local", "unknown", (), spec.sampling)
    folder, revision = _find_directory(spec.source, spec.revision, spec, f"unknown source {spec.source!r}")
    return Source(
        spec.source,
        find_family(folder, spec.source, trust_remote_code=spec.trust_remote_code),
        location=str(folder),
        revision=revision,
        licence=find_licence(folder),
        class_names=(),
        sampling=spec.sampling,
        trust_remote_code=spec.trust_remote_code,
    )


def _resolve_kit(spec: SourceSpec, kit: Kit) -> Source:
    if kit.family not in FAMILIES:
        raise UserError(
            f"kit {kit.name} has the unknown family {kit.family!r}; expected {', '.join(FAMILIES)}"
        )
    location, revision = kit.generator, "local"
    files: tuple[str, ...] = ()
    if kit.family == "callable" and not spec.trust_code:
        raise UserError(
            f"kit {spec.source} names code as its generator ({kit.generator!r}); read that code, then allow it with --trust-code"
        )
    if kit.files and not Path(kit.generator).is_dir():
        place, revision, files = download_files(kit.generator, spec.revision or kit.revision, kit.files)
        location = str(place)
    elif kit.family != "callable":
        missing = f"the weights of kit {kit.name} are not published in one hub repository"
        folder, revision = _find_directory(kit.generator, spec.revision or kit.revision, spec, missing)
        location = str(folder)
    return Source(
        spec.source,
        kit.family,
        location=location,
        revision=revision,
        licence=kit.licence,
        # The classifier of a kit has the generator's classes, so its published names are the generator's.
        class_names=kit.class_names or published_class_names(kit.classifier),
        sampling={**kit.sampling, **spec.sampling},
        trust_remote_code=spec.trust_remote_code,
        files=files,
    )


def _find_directory(name: str, revision: str | None, spec: SourceSpec, missing: str) -> tuple[Path, str]:
    """(local directory, revision) of a directory or hub repository. `missing` begins the error if it is neither."""
    if Path(name).is_dir():
        return Path(name), "local"
    if not is_repository(name):
        known = f"a kit ({', '.join(KITS)}), a model directory, a hub id OWNER/NAME, or module:callable"
        raise UserError(f"{missing}; expected {known}; --source letters needs no download")
    return download(name, revision, with_code=spec.trust_remote_code, pickles=spec.pickles)
