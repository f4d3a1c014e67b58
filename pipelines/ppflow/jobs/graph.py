"""The jobs of a recipe: one for each stage, seed and point of the grid, identified by the content of its request."""

from __future__ import annotations

import functools
import glob
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ppcore.trust import code_digest
from ppflow.recipe import Cell, Recipe, Resources, Stage

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
        digest.update(f"{file.relative_to(path)}\0{content}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


_SEEDED = {
    "synth": ("seed",),
    "pseudo": ("seed", "label_seed"),
    "train": ("seed", "data.label_seed"),
    "refit": ("seed",),
}
"""Settings that take the seed. The label seed decides which images are labelled, so these change with the seed, too."""
_SHORT = 12  # digits of a digest in a folder's name


@dataclass(frozen=True)
class StageJob:
    """A stage with one seed at one point of the grid.

    Attributes:
        digest: sha256 (hex) of the settings, the code that runs the stage, the files that the settings name, and the digests of
            the jobs in `needs`. Two stages with the same digest are one job, whatever their names are.
        group: the point of the grid; "" if several points share the job.
        seed: None if all seeds share the job.
        settings: of the command, with stage names replaced by folders and the seed filled in.
        folder: where it writes. The name ends in the digest, so a changed recipe never finds old results there.
        needs: digests of the jobs that must finish first.
    """

    digest: str
    stage: str
    group: str
    seed: int | None
    kind: str
    settings: dict[str, Any]
    folder: Path
    needs: tuple[str, ...]
    resources: Resources = field(default_factory=Resources)

    @property
    def label(self) -> str:
        """`pp (labels 2, seed 0)`."""
        details = [self.group] if self.group else []
        details += [] if self.seed is None else [f"seed {self.seed}"]
        return f"{self.stage} ({', '.join(details)})" if details else self.stage


@dataclass(frozen=True)
class Graph:
    """All jobs of an experiment.

    Attributes:
        jobs: by digest, each after the jobs that it needs.
        rows: (group, row) -> seed -> digest of the job whose accuracy the table shows.
        cells: group -> stage -> seed (None if all seeds share the job) -> digest.
        exports: (group, stage) -> digest.
    """

    jobs: dict[str, StageJob]
    rows: dict[tuple[str, str], dict[int, str]]
    cells: dict[str, dict[str, dict[int | None, str]]]
    exports: dict[tuple[str, str], str]

    def dependents(self) -> dict[str, set[str]]:
        """Digest -> the jobs that need it, directly or through other jobs."""
        dependents: dict[str, set[str]] = {digest: set() for digest in self.jobs}
        for digest in reversed(list(self.jobs)):  # each job comes after the jobs that it needs
            for needed in self.jobs[digest].needs:
                dependents[needed] |= {digest, *dependents[digest]}
        return dependents


def expand(recipe: Recipe, root: Path) -> Graph:
    """All jobs that the rows and exports of a recipe need.

    Args:
        root: directory of results. A finished job whose digest is there keeps its folder, also if the stage was renamed.
    """
    builder = _Builder(recipe, root / "stages")
    rows: dict[tuple[str, str], dict[int, str]] = {}
    exports: dict[tuple[str, str], str] = {}
    for cell in recipe.cells:
        for label, stage in recipe.rows.items():
            rows[cell.group, label] = {
                seed: builder.add(cell, cell.stages[stage], seed).digest for seed in recipe.seeds
            }
        for stage in recipe.export:
            exports[cell.group, stage] = builder.add(cell, cell.stages[stage], recipe.seeds[0]).digest
    return Graph(builder.jobs, rows, builder.cells, exports)


class _Builder:
    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.jobs: dict[str, StageJob] = {}
        self.cells: dict[str, dict[str, dict[int | None, str]]] = {cell.group: {} for cell in recipe.cells}
        self._folder = folder
        folders = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
        self._existing = {path.name.rpartition("-")[2]: path for path in folders}

    def add(self, cell: Cell, stage: Stage, seed: int) -> StageJob:
        """Add the job of a stage and seed to `jobs`, after the jobs that it needs, and return it."""
        own_seed = seed if stage.per_seed else None
        digests = self.cells[cell.group].setdefault(stage.name, {})
        if own_seed in digests:
            return self.jobs[digests[own_seed]]
        # The digest covers `request`, which names the needed jobs by digest; the command gets `settings`, with their folders.
        settings, request, outside = dict(stage.settings), dict(stage.settings), dict(stage.settings)
        needs: list[str] = []
        for setting, names in stage.references().items():
            needed = {n: self.add(cell, cell.stages[n], seed) for n in names if n in cell.stages}
            needs.extend(job.digest for job in needed.values())
            folders = [str(needed[n].folder) if n in needed else n for n in names]
            settings[setting] = folders if isinstance(stage.settings[setting], list) else folders[0]
            request[setting] = [needed[n].digest if n in needed else n for n in names]
            outside[setting] = [n for n in names if n not in needed]  # a path or the name of a kit
        seeds = dict.fromkeys(_SEEDED[stage.kind], seed) if stage.per_seed else {}
        content = {
            "kind": stage.kind,
            "settings": request | seeds,
            "code": code_version(stage.kind),
            "inputs": input_versions(outside),
        }
        digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
        digests[own_seed] = digest
        job = self.jobs.get(digest)
        if job is None:
            short = digest[:_SHORT]
            name = f"{stage.name}-{short}" if own_seed is None else f"{stage.name}-{own_seed}-{short}"
            folder = self._existing.get(short, self._folder / name)
            job = StageJob(
                digest,
                stage.name,
                cell.group,
                own_seed,
                stage.kind,
                settings | seeds,
                folder,
                tuple(needs),
                stage.resources,
            )
        elif job.group != cell.group:
            job = replace(job, group="")  # several points of the grid share it
        self.jobs[digest] = job
        return job
