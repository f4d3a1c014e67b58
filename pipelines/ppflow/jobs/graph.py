"""A recipe spelled out: one job a stage, seed and point of the grid, addressed by the content of its request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ppflow.jobs.fingerprint import code_version, input_versions
from ppflow.recipe import Cell, Recipe, Resources, Stage

_SEEDED = {
    "synth": ("seed",),
    "pseudo": ("seed", "label_seed"),
    "train": ("seed", "data.label_seed"),
    "refit": ("seed",),
}
"""Settings that take the seed: also which images are labelled changes with it."""
_SHORT = 12  # digits of a digest in a folder's name


@dataclass(frozen=True)
class Job:
    """A stage with one seed at one point of the grid.

    Attributes:
        digest: sha256 (hex) of the request, of the code behind it, of the files that it names, and of all it needs. Jobs of equal
            digest are one, whatever their stages are called.
        settings: of the command, references replaced by folders, seed filled in.
        folder: where it writes; its name ends in the digest, so that a changed recipe never meets old results.
        needs: digests of the jobs that must be done before.
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
        told = [self.group] if self.group else []
        told += [] if self.seed is None else [f"seed {self.seed}"]
        return f"{self.stage} ({', '.join(told)})" if told else self.stage


@dataclass(frozen=True)
class Graph:
    """All jobs of an experiment.

    Attributes:
        jobs: by digest, each after those it needs.
        rows: (group, row) -> seed -> digest of the job whose accuracy it shows.
        cells: group -> stage -> seed (None where all share it) -> digest.
        exports: (group, stage) -> digest.
    """

    jobs: dict[str, Job]
    rows: dict[tuple[str, str], dict[int, str]]
    cells: dict[str, dict[str, dict[int | None, str]]]
    exports: dict[tuple[str, str], str]

    def dependents(self) -> dict[str, set[str]]:
        """Digest -> those that wait for it, directly or not."""
        waiting: dict[str, set[str]] = {digest: set() for digest in self.jobs}
        for digest in reversed(list(self.jobs)):  # a job stands after all it needs
            for needed in self.jobs[digest].needs:
                waiting[needed] |= {digest, *waiting[digest]}
        return waiting


def expand(recipe: Recipe, root: Path) -> Graph:
    """All jobs that the recipe's rows and exports need. Folders of finished jobs are found again under whatever name they have."""
    builder = _Builder(recipe, root / "stages")
    rows: dict[tuple[str, str], dict[int, str]] = {}
    exports: dict[tuple[str, str], str] = {}
    for cell in recipe.cells:
        for label, stage in recipe.rows.items():
            rows[cell.group, label] = {
                seed: builder.add(cell, cell.stages[stage], seed).digest for seed in recipe.seeds
            }
        for stage in recipe.exports:
            exports[cell.group, stage] = builder.add(cell, cell.stages[stage], recipe.seeds[0]).digest
    return Graph(builder.jobs, rows, builder.cells, exports)


class _Builder:
    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.jobs: dict[str, Job] = {}
        self.cells: dict[str, dict[str, dict[int | None, str]]] = {cell.group: {} for cell in recipe.cells}
        self._folder = folder
        there = folder.iterdir() if folder.is_dir() else ()
        self._known = {path.name.rpartition("-")[2]: path for path in there if path.is_dir()}

    def add(self, cell: Cell, stage: Stage, seed: int) -> Job:
        """The job of a stage and seed, put into `jobs` after those it needs."""
        own = seed if stage.per_seed else None
        places = self.cells[cell.group].setdefault(stage.name, {})
        if own in places:
            return self.jobs[places[own]]
        settings, request = dict(stage.settings), dict(stage.settings)
        needs: list[str] = []
        outside = dict(stage.settings)
        for setting, names in stage.references().items():
            outside[setting] = [n for n in names if n not in cell.stages]
            # What is no stage of the recipe is a path or the name of a kit.
            needed = {n: self.add(cell, cell.stages[n], seed) for n in names if n in cell.stages}
            needs.extend(job.digest for job in needed.values())
            folders = [str(needed[n].folder) if n in needed else n for n in names]
            settings[setting] = folders if isinstance(stage.settings[setting], list) else folders[0]
            request[setting] = [needed[n].digest if n in needed else n for n in names]
        if stage.per_seed:
            seeded = dict.fromkeys(_SEEDED[stage.kind], seed)
            settings.update(seeded)
            request.update(seeded)
        digest = _digest(
            {
                "kind": stage.kind,
                "settings": request,
                "code": code_version(stage.kind),
                "inputs": input_versions(outside),
            }
        )
        places[own] = digest
        if digest not in self.jobs:
            folder = self._place(stage.name, own, digest)
            self.jobs[digest] = Job(
                digest,
                stage.name,
                cell.group,
                own,
                stage.kind,
                settings,
                folder,
                tuple(needs),
                stage.resources,
            )
        elif self.jobs[digest].group != cell.group:
            self.jobs[digest] = replace(self.jobs[digest], group="")  # the whole grid's
        return self.jobs[digest]

    def _place(self, name: str, seed: int | None, digest: str) -> Path:
        short = digest[:_SHORT]
        fresh = f"{name}-{short}" if seed is None else f"{name}-{seed}-{short}"
        return self._known.get(short, self._folder / fresh)


def _digest(request: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True, default=str).encode()).hexdigest()
