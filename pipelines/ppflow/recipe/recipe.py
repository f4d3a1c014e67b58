"""An experiment and its stages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

REFERENCES = {
    "data.shards": "synth",
    "data.unlabeled": "pseudo",
    "model.init": "train",
    "model.teacher": "train",
}
"""Training settings that may name another stage of the recipe -> the kind that stage must be of."""


@dataclass(frozen=True)
class Stage:
    """One stage: what `ppgen synth`, `ppgen pseudo` or `pptrain run` is asked for.

    Attributes:
        kind: `synth`, `pseudo` or `train`.
        settings: synth, pseudo: options of that command under their long names, `-` written `_`; train: settings of
            `pptrain` under their dotted names.
        per_seed: the stage is run anew for every seed; training stages always are.
    """

    name: str
    kind: str
    settings: dict[str, Any]
    per_seed: bool

    def references(self) -> dict[str, list[str]]:
        """Setting -> what it names: other stages, or things outside the recipe."""
        given = {key: self.settings[key] for key in REFERENCES if key in self.settings}
        return {
            key: [str(v) for v in value] if isinstance(value, list) else [str(value)]
            for key, value in given.items()
        }


@dataclass(frozen=True)
class Recipe:
    """An experiment.

    Attributes:
        seeds: every training stage runs once with each.
        rows: label in the table -> training stage.
        compare: labels of the rows that all others are compared with, seed by seed.
        notes: sentences printed under the table.
    """

    name: str
    title: str
    seeds: tuple[int, ...]
    stages: dict[str, Stage]
    rows: dict[str, str]
    compare: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def with_seeds(self, count: int) -> Recipe:
        """The same recipe with seeds 0 to `count` - 1."""
        return replace(self, seeds=tuple(range(count)))
