"""What a stage's result depends on beside its settings: the code that makes it, and the files that its settings name."""

from __future__ import annotations

import functools
import glob
import hashlib
from collections.abc import Iterator, Mapping
from dis import opmap
from importlib.util import find_spec
from pathlib import Path
from types import CodeType
from typing import Any

from ppcore.kits import KITS
from ppcore.trust import code_digest

_READING = (
    "ppcore.images",
    "ppcore.seeds",
    "ppcore.noise",
    "ppcore.philox",
    "ppcore.targets",
    "ppcore.classifiers",
    "ppcore.shards",
)
_GENERATION = (
    "ppcore.kits",
    "ppgen.generators",
    "ppgen.sampling",
    "ppgen.sources",
    "ppgen.plan",
    "ppgen.shards",
)
_TRAINING = (
    "pptrain.config",
    "pptrain.data",
    "pptrain.models",
    "pptrain.methods",
    "pptrain.engine",
    "pptrain.evaluation",
)
_MODULES = {
    "synth": (*_READING, *_GENERATION),
    "pseudo": (*_READING, *_GENERATION),
    "train": (*_READING, *_TRAINING),
    "refit": (*_READING, *_TRAINING),
    "export": (*_READING, "pptrain.evaluation"),
}
"""Kind of stage -> the rooms and modules whose code decides what comes out of it."""
_PLACES = ("source", "classifier", "class_map", "target", "data.target", "data.shards", "data.unlabeled")
_MODELS = ("model.init", "model.teacher")
_CODE = ("model.arch", "source")
_WHOLE_BYTES = 64 << 20  # what is larger is known by the sizes and times of its files


@functools.cache
def code_version(kind: str) -> str:
    """sha256 (hex) of the compiled code behind a kind of stage: comments, docstrings and the layout of lines do not count."""
    digest = hashlib.sha256()
    for module in _MODULES[kind]:
        for path in _sources(module):
            code = compile(path.read_bytes(), path.name, "exec", dont_inherit=True, optimize=2)
            digest.update(f"{module} {path.name} {_code_text(code)}".encode())
    return digest.hexdigest()


def input_versions(settings: Mapping[str, Any]) -> dict[str, str]:
    """Setting -> digest of the local files or the code that it names; settings that name none are left out."""
    found = {}
    for name in (*_PLACES, *_MODELS):
        values = settings.get(name, ())
        for value in values if isinstance(values, list) else [values]:
            digests = [_files_digest(path) for path in _places(str(value))]
            if digests:
                found[f"{name} {value}"] = hashlib.sha256("".join(digests).encode()).hexdigest()
    for name in _CODE:
        value = str(settings.get(name, ""))
        if ":" in value and (digest := code_digest(value)):
            found[f"{name} {value}"] = digest
    return found


def _places(value: str) -> Iterator[Path]:
    """Files and folders that a setting names: `DIR`, `bank:DIR`, `target:DIR`, `NAME=DIR`, `train=GLOB,test=GLOB`."""
    value = value.removeprefix("bank:").removeprefix("target:")
    kit = KITS.get(value)
    if isinstance(kit, Path):
        yield kit
        return
    if value and Path(value).exists():
        yield Path(value)
        return
    for part in value.split(","):
        _, _, pattern = part.partition("=")
        yield from map(Path, sorted(glob.glob(pattern)) if pattern else ())


@functools.cache
def _files_digest(path: Path) -> str:
    """Of names and contents below a path; of a large one, names, sizes and times."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    stats = [(file, file.stat()) for file in files]
    whole = sum(stat.st_size for _, stat in stats) <= _WHOLE_BYTES
    digest = hashlib.sha256()
    for file, stat in stats:
        content = (
            hashlib.sha256(file.read_bytes()).hexdigest() if whole else f"{stat.st_size} {stat.st_mtime_ns}"
        )
        digest.update(f"{file.relative_to(path)}\0{content}\0".encode())
    return digest.hexdigest()


def _sources(module: str) -> list[Path]:
    spec = find_spec(module)
    assert spec is not None, module
    if not spec.submodule_search_locations:
        assert spec.origin is not None
        return [Path(spec.origin)]
    return sorted(path for root in spec.submodule_search_locations for path in Path(root).rglob("*.py"))


def _code_text(code: CodeType) -> str:
    """The instructions and what they name, without where in the file they stand."""
    constants = [_code_text(c) if isinstance(c, CodeType) else _constant_text(c) for c in code.co_consts]
    pairs = zip(code.co_code[::2], code.co_code[1::2], strict=True)
    steps = [pair for pair in pairs if pair[0] != opmap["NOP"]]  # which a docstring leaves behind
    return repr((steps, code.co_names, code.co_varnames, code.co_freevars, constants))


def _constant_text(constant: object) -> str:
    return repr(sorted(map(repr, constant))) if isinstance(constant, frozenset) else repr(constant)
