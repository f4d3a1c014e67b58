"""A recipe spelled out: one job a stage and seed, addressed by the content of its request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ppflow.recipe import Recipe, Stage

JobKey = tuple[str, int | None]
"""Name of a stage and a seed, None for a stage that all seeds share."""
_SEEDED = {"synth": ("seed",), "pseudo": ("seed", "label_seed"), "train": ("seed", "data.label_seed")}
"""Settings that take the seed: also which images are labelled changes with it."""


@dataclass(frozen=True)
class Job:
    """A stage with one seed.

    Attributes:
        settings: of the command, references replaced by folders, seed filled in.
        folder: where it writes; named after the digest, so that a changed recipe never meets old results.
        needs: jobs that must be done before.
        digest: sha256 (hex) of the request and of the requests of all it needs.
    """

    key: JobKey
    kind: str
    settings: dict[str, Any]
    folder: Path
    needs: tuple[JobKey, ...]
    digest: str

    @property
    def label(self) -> str:
        stage, seed = self.key
        return stage if seed is None else f"{stage} (seed {seed})"


def expand(recipe: Recipe, root: Path) -> dict[JobKey, Job]:
    """All jobs that the recipe's rows need, each after those it needs."""
    jobs: dict[JobKey, Job] = {}
    for stage in recipe.rows.values():
        for seed in recipe.seeds:
            _add(recipe, recipe.stages[stage], seed, root, jobs)
    return jobs


def _add(recipe: Recipe, stage: Stage, seed: int, root: Path, jobs: dict[JobKey, Job]) -> Job:
    """The job of a stage and seed, put into `jobs` after those it needs."""
    key: JobKey = (stage.name, seed if stage.per_seed else None)
    if key in jobs:
        return jobs[key]
    settings, request = dict(stage.settings), dict(stage.settings)
    needs: list[JobKey] = []
    for setting, names in stage.references().items():
        # What is no stage of the recipe is a path or the name of a kit.
        needed = {n: _add(recipe, recipe.stages[n], seed, root, jobs) for n in names if n in recipe.stages}
        needs.extend(job.key for job in needed.values())
        folders = [str(needed[n].folder) if n in needed else n for n in names]
        settings[setting] = folders if isinstance(stage.settings[setting], list) else folders[0]
        request[setting] = [needed[n].digest if n in needed else n for n in names]
    if stage.per_seed:
        seeded = dict.fromkeys(_SEEDED[stage.kind], seed)
        settings.update(seeded)
        request.update(seeded)
    digest = _digest({"kind": stage.kind, "settings": request, "version": version("pptransfer")})
    suffix = "" if key[1] is None else f"-{seed}"
    folder = root / "stages" / f"{stage.name}{suffix}-{digest[:10]}"
    jobs[key] = Job(key, stage.kind, settings, folder, tuple(needs), digest)
    return jobs[key]


def _digest(request: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def dependents(jobs: Mapping[JobKey, Job]) -> dict[JobKey, int]:
    """How many jobs wait, directly or not, for each: those with most should start first."""
    waiting: dict[JobKey, set[JobKey]] = {key: set() for key in jobs}
    for key in reversed(list(jobs)):  # a job stands after all it needs
        for needed in jobs[key].needs:
            waiting[needed] |= {key, *waiting[key]}
    return {key: len(others) for key, others in waiting.items()}
