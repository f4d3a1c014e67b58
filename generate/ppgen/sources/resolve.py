"""From what the user typed to a model that can be opened: kits, directories, hub repositories, callables."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ppcore import storage
from ppcore.classifiers import published_class_names
from ppcore.errors import UserError
from ppcore.kits import KIT_FILE, KITS, Kit, get_kit
from ppgen.sources.protocol import FAMILIES, Source

_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_PIPELINES = {"DiTPipeline": "dit", "ConsistencyModelPipeline": "consistency"}
_WEIGHTS = (".safetensors", ".bin", ".pth", ".pt")
_PLAIN = ["*.json", "*.txt", "*.model", "README.md"]
# Of components and of whole models, by name: repositories also keep merged copies of everything at their root.
_SAFE, _PICKLED = ["*/*.safetensors", "model.safetensors"], ["*/*.bin", "pytorch_model.bin"]
_VARIANTS = ["*.fp16.*", "*.non_ema.*", "*flax*", "*.onnx", "*.msgpack", "*openvino*"]


def resolve_source(
    spec: str, sampling: Mapping[str, Any], revision: str | None, trust_remote_code: bool
) -> Source:
    """Find the model `spec` names, fetching it from the hub when it must be.

    Raises:
        UserError: unknown, not to be had, or of a kind no family reads.
    """
    if spec in KITS or (Path(spec) / KIT_FILE).is_file():
        return _from_kit(spec, get_kit(spec), sampling, revision, trust_remote_code)
    if ":" in spec and not Path(spec).exists():
        return Source(spec, "callable", spec, "local", "unknown", (), sampling)
    folder, found = _fetch(spec, revision, trust_remote_code)
    family = _family(folder, spec, trust_remote_code)
    return Source(spec, family, str(folder), found, _licence(folder), (), sampling, trust_remote_code)


def weights_sha256(folder: str | Path) -> str:
    """sha256 over the weight files below `folder`, their relative names included, in name order."""
    digest = hashlib.sha256()
    for path in sorted(p for p in Path(folder).rglob("*") if p.suffix in _WEIGHTS):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises UserError when it is missing or damaged."""
    try:
        return storage.read_json(path, dict[str, Any])
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read {path} ({error}); expected a JSON file of a complete model directory"
        ) from error


def _from_kit(
    spec: str, kit: Kit, sampling: Mapping[str, Any], revision: str | None, trust_remote_code: bool
) -> Source:
    if kit.family not in FAMILIES:
        raise UserError(
            f"kit {kit.name} is of the unknown family {kit.family!r}; expected {', '.join(FAMILIES)}"
        )
    merged = {**kit.sampling, **sampling}
    found = "local"
    location = kit.generator
    if kit.family != "callable":
        folder, found = _fetch(kit.generator, revision or kit.revision, trust_remote_code, kit_name=kit.name)
        location = str(folder)
    source = Source(
        spec, kit.family, location, found, kit.licence, kit.class_names, merged, trust_remote_code
    )
    # A kit's classifier shares its label space, so the classes published for it name the generator's.
    return (
        source if source.class_names else replace(source, class_names=published_class_names(kit.classifier))
    )


def _fetch(spec: str, revision: str | None, trust_remote_code: bool, kit_name: str = "") -> tuple[Path, str]:
    """(local directory, revision) of a directory or hub repository."""
    if Path(spec).is_dir():
        return Path(spec), "local"
    if not _HUB_ID.fullmatch(spec):
        known = f"a kit ({', '.join(KITS)}), a model directory, a hub id OWNER/NAME, or module:callable"
        told = (
            f"the weights of kit {kit_name} are not published in a hub repository"
            if kit_name
            else f"unknown source {spec!r}"
        )
        raise UserError(f"{told}; expected {known}; --source letters needs no download")
    if trust_remote_code and not _COMMIT.fullmatch(revision or ""):
        raise UserError(
            f"code from {spec} may only be run at a pinned commit; give --revision with the 40-digit commit you have read"
        )
    return _download(spec, revision, trust_remote_code)


def _download(repo: str, revision: str | None, trust_remote_code: bool) -> tuple[Path, str]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    def snapshot(patterns: list[str]) -> Path:
        return Path(
            snapshot_download(repo, revision=revision, allow_patterns=patterns, ignore_patterns=_VARIANTS)
        )

    code = ["*.py"] if trust_remote_code else []
    try:
        folder = snapshot([*_PLAIN, *_SAFE, *code])
        if _lacks_weights(folder):
            folder = snapshot([*_PLAIN, *_SAFE, *_PICKLED, *code])
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"the weights of {repo} cannot be had ({reason}); give a local model directory, connect to the hub, or use "
            "--source letters, which needs no download"
        ) from error
    if _lacks_weights(folder):
        raise UserError(
            f"the weights of {repo} are not in the local cache and cannot be had; connect to the hub, or use --source letters, "
            "which needs no download"
        )
    return folder, folder.name


def _lacks_weights(folder: Path) -> bool:
    """Whether the repository, or a component of it with a model config, has no weight file."""
    parts = [path.parent for path in folder.glob("*/config.json")] or [folder]
    return any(not any(path.suffix in _WEIGHTS for path in part.iterdir()) for part in parts)


def _family(folder: Path, spec: str, trust_remote_code: bool) -> str:
    if (folder / "model_index.json").is_file():
        return _pipeline_family(read_json(folder / "model_index.json"), spec, trust_remote_code)
    if (folder / "unet" / "config.json").is_file():
        scheduler = folder / "scheduler" / "scheduler_config.json"
        kind = read_json(scheduler).get("_class_name") if scheduler.is_file() else ""
        return "consistency" if kind == "CMStochasticIterativeScheduler" else "unet"
    if (folder / "transformer" / "config.json").is_file():
        return "dit"
    if (folder / "config.json").is_file() and "attention_layer_position" in read_json(folder / "config.json"):
        return "biggan"
    raise UserError(
        f"{spec} holds no generator that can be read; expected a diffusers pipeline directory (model_index.json), or BigGAN-deep's "
        "config.json and pytorch_model.bin"
    )


def _pipeline_family(index: dict[str, Any], spec: str, trust_remote_code: bool) -> str:
    name = index.get("_class_name")
    if isinstance(name, list):  # [file, class]: the repository ships its own pipeline code
        if not trust_remote_code:
            raise UserError(
                f"{spec} runs Python code of its own ({name[0]}); read it, then allow it with --trust-remote-code and a pinned "
                "--revision"
            )
        return "text"
    if name in _PIPELINES:
        return _PIPELINES[str(name)]
    if list(index.get("unet") or ())[1:] == ["UNet2DModel"]:
        return "unet"
    if any(part.startswith("text_encoder") for part in index):
        return "text"
    raise UserError(
        f"{spec} is a {name}, which no family reads; expected {', '.join(_PIPELINES)}, a UNet2DModel with its scheduler, or a "
        "text-to-image pipeline"
    )


def _licence(folder: Path) -> str:
    """The `license:` line of the model card's header, `unknown` without one."""
    card = folder / "README.md"
    lines: Iterable[str] = card.read_text(errors="replace").splitlines()[:80] if card.is_file() else ()
    for line in lines:
        if match := re.match(r"licen[sc]e:\s*(\S+)", line):
            return match[1]
    return "unknown"
