"""Model directories as save_pretrained writes them, local or from the hub: family, licence, weights. Their files may come from anybody."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, Field
from safetensors import SafetensorError, safe_open

from ppcore.classifiers import read_weights
from ppcore.errors import UserError, first_line
from ppcore.kits import KitFile, is_commit
from ppcore.storage import read_json

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")
_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")  # names of weight files of save_pretrained
_NAME = re.compile(rf"(?:{'|'.join(_STEMS)})(?:\.(\w+))?(?:-\d+-of-\d+)?\.(?:safetensors|bin)")
_PIPELINES = {"DiTPipeline": "dit", "ConsistencyModelPipeline": "consistency"}
_MARKERS = {
    "vavae": ".mid.attn_1.q.weight",  # the autoencoder of lightningdit
    "lightningdit": ".mlp.w12.weight",
    "sit": "y_embedder.embedding_table.weight",
    "var": "class_emb.weight",
    "vqvae": "quantize.embedding.weight",  # the autoencoder of var
}
"""Family of published state dicts -> how a name of a weight ends in them; the first of a file that fits is its family."""
_LIBRARIES = ("diffusers", "transformers", "stable_diffusion")
_NoOrText = str | None

T = TypeVar("T")


class _PipelineIndex(BaseModel, extra="allow"):
    """model_index.json: class of the pipeline, and name -> [library, class] of its components."""

    pipeline: Annotated[str | tuple[str, str] | None, Field(alias="_class_name")] = None
    unet: tuple[_NoOrText, _NoOrText] | None = None

    @property
    def encodes_text(self) -> bool:
        """Whether a component encodes text."""
        return any(name.startswith("text_encoder") for name in self.model_extra or ())

    @property
    def foreign(self) -> list[str]:
        """Libraries of components that no family uses. diffusers would import any library that is named."""
        parts = [*(self.model_extra or {}).values(), self.unet]
        pairs = [part for part in parts if isinstance(part, list | tuple) and len(part) == 2]
        return [str(library) for library, _ in pairs if library is not None and library not in _LIBRARIES]


class _ClassName(BaseModel):
    """The field of a component's configuration that is read."""

    name: Annotated[str, Field(alias="_class_name")] = ""


def read_config(path: Path, kind: type[T]) -> T:
    """Read a JSON file of a model directory as `kind`. Raises UserError if it is missing, damaged or has another type."""
    try:
        return read_json(path, kind)
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read {path} ({error}); expected a JSON file of a complete model directory"
        ) from error


def find_family(folder: Path, source: str, *, trust_remote_code: bool) -> str:
    """The family of a model directory, one of :data:`ppgen.sources.FAMILIES`.

    Args:
        source: as the user typed it, for messages.
        trust_remote_code: whether Python code in the directory may run.

    Raises:
        UserError: no family reads the directory, or it needs its own code and that is not allowed.
    """
    if (folder / "model_index.json").is_file():
        index = read_config(folder / "model_index.json", _PipelineIndex)
        return _family_of_pipeline(index, source, trust_remote_code)
    if (folder / "unet" / "config.json").is_file():
        scheduler = folder / "scheduler" / "scheduler_config.json"
        kind = read_config(scheduler, _ClassName).name if scheduler.is_file() else ""
        return "consistency" if kind == "CMStochasticIterativeScheduler" else "unet"
    published = set(_published_files(folder).values()) & {"lightningdit", "sit", "var"}
    if len(published) == 1:
        return published.pop()
    if (folder / "transformer" / "config.json").is_file():
        return "dit"
    config = folder / "config.json"
    if config.is_file() and "attention_layer_position" in read_config(config, dict[str, Any]):
        return "biggan"
    raise UserError(
        f"{source} contains no known generator; expected a diffusers pipeline directory (model_index.json), or BigGAN-deep's "
        "config.json and pytorch_model.bin, or the weights of SiT, REPA, LightningDiT or VAR and their autoencoder"
    )


def find_weights(folder: Path, family: str, names: Iterable[str] = ()) -> Path:
    """The file with the weights of a family whose models are published as plain state dicts: in `folder` or in its `transformer/`.

    Args:
        names: only these files, relative to `folder`; empty for all.

    Raises:
        UserError: there is none, or there are several; the message names them.
    """
    wanted = {folder / name for name in names}
    files = [path for path, held in _published_files(folder).items() if held == family]
    found = [path for path in files if not wanted or path in wanted]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise UserError(
            f"{folder} must hold one file with weights of a {family}; found {names}; give each model a folder of its own"
        )
    return found[0]


def _published_files(folder: Path) -> dict[Path, str]:
    """The files with a published state dict -> the family."""
    places = [*folder.glob("*"), *folder.glob("transformer/*")]
    files = sorted(path for path in places if path.suffix in WEIGHT_SUFFIXES and path.is_file())
    found = {path: _family_of_names(_tensor_names(path)) for path in files}
    return {path: family for path, family in found.items() if family is not None}


def _family_of_names(names: Sequence[str]) -> str | None:
    ends = (family for family, end in _MARKERS.items() if any(name.endswith(end) for name in names))
    return next(ends, None)


def _tensor_names(file: Path) -> list[str]:
    """The names in a weight file, without reading the values; empty where it is none."""
    try:
        if file.suffix != ".safetensors":
            return list(read_weights(file, mmap=True))
        with safe_open(file, framework="numpy") as tensors:
            return list(tensors.keys())
    except (UserError, SafetensorError):
        return []


def _family_of_pipeline(index: _PipelineIndex, source: str, trust_remote_code: bool) -> str:
    if isinstance(index.pipeline, tuple):  # (file, class): pipeline code in the repository
        if index.pipeline[1] == "SiTPipeline":  # of the weights alone; the code is not needed
            return "sit"
        if not trust_remote_code:
            raise UserError(
                f"{source} runs its own Python code ({index.pipeline[0]}); read that code, then allow it with --trust-remote-code and a "
                "commit as --revision"
            )
        return "text"
    if index.pipeline in _PIPELINES:
        return _PIPELINES[index.pipeline]
    if index.unet is not None and index.unet[1] == "UNet2DModel":
        return "unet"
    if index.encodes_text:
        if index.foreign and not trust_remote_code:
            raise UserError(
                f"{source} has a component from the library {index.foreign[0]!r}, whose code would run; read that code, then allow it with "
                "--trust-remote-code and a commit as --revision"
            )
        return "text"
    raise UserError(
        f"{source} is a {index.pipeline}, which no family reads; expected {', '.join(_PIPELINES)}, a UNet2DModel with its scheduler, "
        "or a text-to-image pipeline"
    )


def find_licence(folder: Path) -> str:
    """The licence in the header of the model card (README.md), else `unknown`."""
    card = folder / "README.md"
    if not card.is_file():
        return "unknown"
    from huggingface_hub.repocard import metadata_load  # slow to import, only for directories

    try:
        header = metadata_load(card) or {}
    except (OSError, ValueError, yaml.YAMLError):
        return "unknown"
    named = header.get("license", header.get("licence"))
    return named if isinstance(named, str) else "unknown"


def lacks_weights(folder: Path, suffixes: tuple[str, ...] = WEIGHT_SUFFIXES) -> bool:
    """Whether the directory, or one of its components with a config.json, has no weight file with one of these suffixes."""
    parts = [path.parent for path in folder.glob("*/config.json")] or [folder]
    return any(not any(path.suffix in suffixes for path in part.iterdir()) for part in parts)


def weights_sha256(folder: str | Path, *components: str) -> str:
    """sha256 (hex) over the names and contents of the weight files that loading the components of `folder` reads.

    Other files, such as earlier checkpoints or the same weights in another format, are not included.

    Args:
        components: folders below `folder`, also without weights, or names of weight files.
    """
    root, digest = Path(folder), hashlib.sha256()
    files = {file for name in components for file in _weight_files(root / name)}
    for path in sorted(files):
        digest.update(path.relative_to(root).as_posix().encode(errors="surrogateescape"))
        with path.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def find_variant(component: Path) -> str | None:
    """`fp16` if a component has only such weight files (`model.fp16.safetensors`); None if it has plain ones, or several variants."""
    named = [_NAME.fullmatch(path.name) for path in component.glob("*")]
    found = {match[1] for match in named if match}
    return found.pop() if len(found) == 1 else None


class _ShardIndex(BaseModel):
    """The index of a model in several weight files."""

    weight_map: dict[str, Annotated[str, Field(pattern=r"^[\w.-]+$")]]


def _weight_files(component: Path) -> list[Path]:
    """The weight files of a component that diffusers and transformers read: safetensors before pickles, one file or several."""
    if component.is_file():
        return [component]
    found = _find_weight_file(component)
    if found is None:
        return [path for path in component.rglob("*") if path.suffix in WEIGHT_SUFFIXES]
    if found.suffix != ".json":
        return [found]
    return [component / name for name in set(read_config(found, _ShardIndex).weight_map.values())]


def _find_weight_file(component: Path) -> Path | None:
    """The one weight file of a component, or the index of several."""
    variant = f".{name}" if (name := find_variant(component)) else ""
    for suffix in (".safetensors", ".bin"):
        for stem in _STEMS:
            for name in (f"{stem}{variant}{suffix}", f"{stem}{suffix}.index{variant}.json"):
                if (component / name).is_file():
                    return component / name
    return None


def lost_weights(component: Path) -> set[str]:
    """Names that the index of a model in several files lists and that the file beside it lacks."""
    index = _find_weight_file(component)
    if index is None or index.suffix != ".json":
        return set()
    listed = read_config(index, _ShardIndex).weight_map
    held = {file: set(_tensor_names(component / file)) for file in set(listed.values())}
    return {name for name, file in listed.items() if name not in held[file]}


_PLAIN = ["*.json", "*.txt", "*.model", "README.md"]
# Only these names at the root, because repositories also keep merged copies of all components there.
_SAFE, _PICKLED = ["*/*.safetensors", "model.safetensors"], ["*/*.bin", "pytorch_model.bin"]
_HALF = ["*.fp16.*", "*.fp16-*"]  # downloaded where a component has no other weights
_IGNORED = ["*.non_ema.*", "*flax*", "*.onnx", "*.msgpack", "*openvino*"]


def download(
    repository: str, revision: str | None, *, with_code: bool, pickles: bool = True
) -> tuple[Path, str]:
    """Download a model to the hub's cache; safetensors are preferred to pickles.

    Args:
        with_code: download Python files, too.
        pickles: accept pickled weights if there are no others.

    Returns:
        (directory in the cache, commit)

    Raises:
        UserError: the download failed, or code is asked for at a revision that is not a commit.
    """
    if with_code and not is_commit(revision):
        raise UserError(
            f"code from {repository} runs only at a fixed commit; give --revision with the 40-digit commit that you have read"
        )
    from huggingface_hub import snapshot_download  # slow to import, only for hub ids
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError  # slow to import

    def snapshot(*patterns: str, half: bool = False) -> Path:
        code = ["*.py"] if with_code else []
        allowed = [*_PLAIN, *patterns, *code]
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=allowed,
                ignore_patterns=_IGNORED if half else _IGNORED + _HALF,
            )
        )

    try:
        folder = snapshot(*_SAFE)
        if pickles and lacks_weights(folder):
            folder = snapshot(*_SAFE, *_PICKLED)
        if lacks_weights(folder, WEIGHT_SUFFIXES if pickles else (".safetensors",)):
            folder = snapshot(*_SAFE, half=True)
        if pickles and lacks_weights(folder):
            folder = snapshot(*_SAFE, *_PICKLED, half=True)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise _no_download(repository, error) from error
    if not pickles and lacks_weights(folder, (".safetensors",)):
        raise UserError(
            f"the weights of {repository} are pickled, which only a typed source may be; give --source {repository}"
        )
    if lacks_weights(folder):
        raise UserError(
            f"the weights of {repository} are not in the local cache and cannot be downloaded; connect to the hub, or use "
            "--source letters, which needs no download"
        )
    return folder, folder.name


def download_files(
    repository: str, revision: str | None, files: Mapping[str, KitFile]
) -> tuple[Path, str, tuple[str, ...]]:
    """Download some files of a repository to the hub's cache. A file that was not there before is checked by size and sha256.

    Returns:
        (the folder in the cache that all of them are below, commit, the files relative to that folder)

    Raises:
        UserError: the download failed, or a file is not the expected one; that file is removed.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache  # slow to import, only for hub ids
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError  # slow to import

    root = Path()
    for name, known in files.items():
        there = isinstance(try_to_load_from_cache(repository, name, revision=revision), str)
        try:
            path = Path(hf_hub_download(repository, name, revision=revision))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
            raise _no_download(repository, error) from error
        if not there and (difference := _difference(path, known)):
            path.resolve().unlink()
            path.unlink(missing_ok=True)
            raise UserError(
                f"{name} of {repository} is not the file that this version knows ({difference}), so it was removed; download it again, "
                "or give your own copy in a folder with --source DIR"
            )
        root = path.parents[len(Path(name).parts) - 1]
    common = os.path.commonpath([Path(name).parent for name in files])
    return root / common, root.name, tuple(Path(name).relative_to(common).as_posix() for name in files)


def is_cached(repository: str, revision: str | None, names: Iterable[str]) -> bool:
    """Whether the hub's cache holds these files of a repository."""
    from huggingface_hub import try_to_load_from_cache  # slow to import, only for hub ids

    return all(isinstance(try_to_load_from_cache(repository, name, revision=revision), str) for name in names)


def _difference(path: Path, known: KitFile) -> str:
    """How a file differs from what is known of it; empty if it does not."""
    size = path.stat().st_size
    if known.size not in (None, size):
        return f"{size} bytes instead of {known.size}"
    if known.sha256 is None:
        return ""
    with path.open("rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    return "" if found == known.sha256 else f"sha256 {found} instead of {known.sha256}"


def _no_download(repository: str, error: Exception) -> UserError:
    return UserError(
        f"the weights of {repository} cannot be downloaded ({first_line(error)}); give a local model directory, connect to the hub, or use "
        "--source letters, which needs no download"
    )
