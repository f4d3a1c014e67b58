"""A recipe spelled out: one node a stage and seed, addressed by the content of its request."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ppflow.recipe import Recipe, Stage

Key = tuple[str, int | None]
_LABEL_SEED = {
    "pseudo": ("label_seed",),
    "train": ("data.label_seed",),
}  # which images are labelled changes with the seed


@dataclass(frozen=True)
class Node:
    """One job.

    Attributes:
        key: stage name and seed (None for a stage that all seeds share).
        settings: of the command, references replaced by folders, seed filled in.
        folder: where it writes; named after a hash of the request, so that a changed recipe never meets old results.
        needs: jobs that must be done before.
    """

    key: Key
    kind: str
    settings: dict[str, Any]
    folder: Path
    needs: tuple[Key, ...]

    @property
    def label(self) -> str:
        stage, seed = self.key
        return stage if seed is None else f"{stage} (seed {seed})"


def expand(recipe: Recipe, root: Path) -> dict[Key, Node]:
    """All jobs that the recipe's rows need, each after those it needs."""
    nodes: dict[Key, Node] = {}
    digests: dict[Key, str] = {}
    for stage in recipe.rows.values():
        for seed in recipe.seeds:
            _add(recipe, recipe.stages[stage], seed, root, nodes, digests)
    return nodes


def _add(
    recipe: Recipe, stage: Stage, seed: int, root: Path, nodes: dict[Key, Node], digests: dict[Key, str]
) -> Key:
    key: Key = (stage.name, seed if stage.per_seed else None)
    if key in nodes:
        return key
    settings, content = dict(stage.settings), dict(stage.settings)
    needs: list[Key] = []
    for setting, others in stage.references().items():
        # What is no stage of the recipe is a path or the name of a kit.
        inner = {
            o: _add(recipe, recipe.stages[o], seed, root, nodes, digests)
            for o in others
            if o in recipe.stages
        }
        needs.extend(inner.values())
        folders = [str(nodes[inner[o]].folder) if o in inner else o for o in others]
        settings[setting] = folders if isinstance(stage.settings[setting], list) else folders[0]
        content[setting] = [digests[inner[o]] if o in inner else o for o in others]
    if stage.per_seed:
        seeded = {"seed": seed, **dict.fromkeys(_LABEL_SEED.get(stage.kind, ()), seed)}
        settings.update(seeded)
        content.update(seeded)
    request = {"kind": stage.kind, "settings": content, "version": version("pptransfer")}
    digests[key] = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    suffix = "" if key[1] is None else f"-{seed}"
    folder = root / "stages" / f"{stage.name}{suffix}-{digests[key][:10]}"
    nodes[key] = Node(key, stage.kind, settings, folder, tuple(needs))
    return key


def dependents(nodes: dict[Key, Node]) -> dict[Key, int]:
    """How many jobs wait, directly or not, for each: those with most should start first."""
    waiting: dict[Key, set[Key]] = {key: set() for key in nodes}
    for key in reversed(list(nodes)):  # a node stands after all it needs
        for needed in nodes[key].needs:
            waiting[needed] |= {key, *waiting[key]}
    return {key: len(others) for key, others in waiting.items()}
