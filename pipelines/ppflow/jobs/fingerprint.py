"""What decides the result of a stage besides its settings: the code that runs it, and the files that its settings name."""

from __future__ import annotations

import functools
import glob
import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ppcore.trust import code_digest

_GENERATION, _TRAINING = ("ppcore", "ppgen"), ("ppcore", "pptrain")
_PACKAGES = {
    "synth": _GENERATION,
    "pseudo": _GENERATION,
    "train": _TRAINING,
    "refit": _TRAINING,
    "export": _TRAINING,
}
"""Kind of stage -> the packages that run it."""
_PATHS = ("source", "classifier", "class_map", "target", "data.target", "data.shards", "data.unlabeled")
_MODELS = ("model.init", "model.teacher")
_CODE = ("model.arch", "source")
_HASHED_BYTES = 64 << 20


@functools.cache
def code_version(kind: str) -> str:
    """sha256 (hex) of all files of the packages that run a kind of stage, the embedded kit among them."""
    digest = hashlib.sha256()
    for package in _PACKAGES[kind]:
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        digest.update(f"{package} {files_digest(Path(spec.origin).parent)}".encode())
    return digest.hexdigest()


def input_versions(settings: Mapping[str, Any]) -> dict[str, str]:
    """`SETTING VALUE` -> digest of the local files or of the code that the value names, for the settings that name some."""
    versions = {}
    for name in (*_PATHS, *_MODELS):
        values = settings.get(name, ())
        for value in map(str, values if isinstance(values, list) else [values]):
            digests = [files_digest(path) for path in _paths(value)]
            if digests:
                versions[f"{name} {value}"] = hashlib.sha256("".join(digests).encode()).hexdigest()
    for name in _CODE:
        value = str(settings.get(name, ""))
        if ":" in value and (digest := code_digest(value)):
            versions[f"{name} {value}"] = digest
    return versions


def _paths(value: str) -> list[Path]:
    """Files and folders named by `DIR`, `bank:DIR`, `target:DIR`, `NAME=DIR` or `train=GLOB,test=GLOB`."""
    value = value.removeprefix("bank:").removeprefix("target:")
    if value and Path(value).exists():
        return [Path(value)]
    patterns = [part.partition("=")[2] for part in value.split(",")]
    return [Path(path) for pattern in patterns for path in sorted(glob.glob(pattern))]


@functools.cache
def files_digest(path: Path) -> str:
    """sha256 (hex) of the names and contents below a path; above 64 MiB in all, of names, sizes and modification times."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    files = [file for file in files if file.suffix != ".pyc"]
    small = sum(file.stat().st_size for file in files) <= _HASHED_BYTES
    digest = hashlib.sha256()
    for file in files:
        stat = file.stat()
        content = (
            hashlib.sha256(file.read_bytes()).hexdigest() if small else f"{stat.st_size} {stat.st_mtime_ns}"
        )
        digest.update(f"{file.relative_to(path)}\0{content}\0".encode())
    return digest.hexdigest()
