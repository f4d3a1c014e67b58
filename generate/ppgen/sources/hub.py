"""Weights from the hub, through its cache."""

from __future__ import annotations

import re
from pathlib import Path

from ppcore.errors import UserError
from ppgen.sources.model_directory import lacks_weights

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_PLAIN = ["*.json", "*.txt", "*.model", "README.md"]
# Of components and of whole models, by name: repositories also keep merged copies of everything at their root.
_SAFE, _PICKLED = ["*/*.safetensors", "model.safetensors"], ["*/*.bin", "pytorch_model.bin"]
_VARIANTS = ["*.fp16.*", "*.non_ema.*", "*flax*", "*.onnx", "*.msgpack", "*openvino*"]


def is_repository(name: str) -> bool:
    """Whether `name` can be a hub id OWNER/NAME."""
    return _REPOSITORY.fullmatch(name) is not None


def is_commit(revision: str) -> bool:
    """Whether a revision can never come to mean something else."""
    return _COMMIT.fullmatch(revision) is not None


def download(
    repository: str, revision: str | None, *, with_code: bool, pickles: bool = True
) -> tuple[Path, str]:
    """(directory in the hub's cache, its commit). Safetensors are preferred to pickles.

    Args:
        with_code: fetch Python files, too, which someone is going to run.
        pickles: take pickled weights where there are no others.

    Raises:
        UserError: it cannot be had, or code is asked for at a revision that may change.
    """
    if with_code and not is_commit(revision or ""):
        raise UserError(
            f"code from {repository} may only be run at a pinned commit; give --revision with the 40-digit commit you have read"
        )
    from huggingface_hub import snapshot_download  # heavy: half a second, only for hub ids
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError  # heavy: as above

    def snapshot(*patterns: str) -> Path:
        code = ["*.py"] if with_code else []
        allowed = [*_PLAIN, *patterns, *code]
        return Path(
            snapshot_download(
                repository, revision=revision, allow_patterns=allowed, ignore_patterns=_VARIANTS
            )
        )

    try:
        folder = snapshot(*_SAFE)
        if pickles and lacks_weights(folder):
            folder = snapshot(*_SAFE, *_PICKLED)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"the weights of {repository} cannot be had ({reason}); give a local model directory, connect to the hub, or use "
            "--source letters, which needs no download"
        ) from error
    if not pickles and lacks_weights(folder, (".safetensors",)):
        raise UserError(
            f"the weights of {repository} are pickled, which are opened only if you ask for them; give --source {repository}"
        )
    if lacks_weights(folder):
        raise UserError(
            f"the weights of {repository} are not in the local cache and cannot be had; connect to the hub, or use --source letters, "
            "which needs no download"
        )
    return folder, folder.name
