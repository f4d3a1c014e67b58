"""From what the user typed to a model that can be opened: kits, directories, hub repositories, callables."""

from __future__ import annotations

from pathlib import Path

from ppcore.classifiers import published_class_names
from ppcore.errors import UserError
from ppcore.kits import KITS, Kit
from ppgen.sources import hub
from ppgen.sources.model_directory import find_family, find_licence
from ppgen.sources.protocol import FAMILIES, Source
from ppgen.sources.spec import BANK, SourceSpec, is_code, source_kit


def resolve_source(spec: SourceSpec) -> Source:
    """Find the model that `spec` names, fetching it from the hub when it must be.

    Raises:
        UserError: unknown, not to be had, or of a kind no family reads.
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
            f"kit {kit.name} is of the unknown family {kit.family!r}; expected {', '.join(FAMILIES)}"
        )
    location, revision = kit.generator, "local"
    if kit.family == "callable" and not spec.trust_code:
        raise UserError(
            f"kit {spec.source} names code as its generator ({kit.generator!r}), which runs only if you ask for it; read that code, "
            "then give --trust-code"
        )
    if kit.family != "callable":
        missing = f"the weights of kit {kit.name} are not published in a hub repository"
        folder, revision = _find_directory(kit.generator, spec.revision or kit.revision, spec, missing)
        location = str(folder)
    return Source(
        spec.source,
        kit.family,
        location=location,
        revision=revision,
        licence=kit.licence,
        # A kit's classifier shares its label space, so the classes published for it name the generator's.
        class_names=kit.class_names or published_class_names(kit.classifier),
        sampling={**kit.sampling, **spec.sampling},
        trust_remote_code=spec.trust_remote_code,
    )


def _find_directory(name: str, revision: str | None, spec: SourceSpec, missing: str) -> tuple[Path, str]:
    """(local directory, revision) of a directory or hub repository; `missing` says what is wrong when it is neither."""
    if Path(name).is_dir():
        return Path(name), "local"
    if not hub.is_repository(name):
        known = f"a kit ({', '.join(KITS)}), a model directory, a hub id OWNER/NAME, or module:callable"
        raise UserError(f"{missing}; expected {known}; --source letters needs no download")
    return hub.download(name, revision, with_code=spec.trust_remote_code, pickles=spec.pickles)
