"""An experiment and its stages, all choices made: parameters filled in, the grid spelled out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from ppcore.errors import UserError

MODELS = ("train", "refit")
"""Kinds of stages that end in a classifier."""
REFERENCES: dict[str, tuple[str, ...]] = {
    "classifier": MODELS,
    "data.shards": ("synth",),
    "data.unlabeled": ("pseudo", "synth"),
    "model.init": MODELS,
    "model.teacher": MODELS,
    "candidates": ("train",),
    "model": MODELS,
}
"""Settings that may name another stage of the recipe -> the kinds that stage may be of."""


@dataclass(frozen=True)
class Resources:
    """What one run of a stage takes: CPUs and GPUs (a share of one below 1), and memory in GB (Ray only)."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory_gb: float = 0.0


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        kind: `synth`, `pseudo`: options of that command of `ppgen`; `train`: settings of `pptrain run`; `refit`: the candidate that did
            best on validation images, trained again on all labels; `export`: a classifier as one file.
        settings: synth, pseudo: options under their long names, `-` written `_`; train: settings under their dotted names.
        per_seed: the stage is run anew for every seed; training stages always are.
    """

    name: str
    kind: str
    settings: dict[str, Any]
    per_seed: bool
    resources: Resources = field(default_factory=Resources)

    def references(self) -> dict[str, list[str]]:
        """Setting -> what it names: other stages, or things outside the recipe."""
        given = {key: self.settings[key] for key in REFERENCES if key in self.settings}
        return {
            key: [str(v) for v in value] if isinstance(value, list) else [str(value)]
            for key, value in given.items()
        }


@dataclass(frozen=True)
class Cell:
    """A point of the grid.

    Attributes:
        values: axis -> what it is called there; empty without a grid.
        stages: with the parameters of this point.
    """

    values: dict[str, str]
    stages: dict[str, Stage]

    @property
    def group(self) -> str:
        """`labels 2, target cars`."""
        return ", ".join(f"{axis} {value}" for axis, value in self.values.items())


@dataclass(frozen=True)
class Rates:
    """What `--dry-run` reckons with where nothing has been measured yet; both of one worker.

    Attributes:
        images_per_s: of generation.
        train_images_per_s: of training, labelled and unlabelled images together.
        source: where the figures are from.
    """

    images_per_s: float | None = None
    train_images_per_s: float | None = None
    source: str = ""


@dataclass(frozen=True)
class Recipe:
    """An experiment.

    Attributes:
        seeds: every training stage runs once with each.
        cells: the grid's points, one without a grid.
        rows: label in the table -> training stage; the table has them in every cell.
        compare: labels of the rows that all others are compared with, seed by seed.
        exports: stages of kind `export`, run once at the end.
        headline: the row that the run ends with a sentence about, "" for none.
        notes: sentences printed under the table.
        parameters: name -> value, as they were chosen.
    """

    name: str
    title: str
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    rows: dict[str, str]
    compare: tuple[str, ...] = ()
    exports: tuple[str, ...] = ()
    headline: str = ""
    notes: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    rates: Rates = field(default_factory=Rates)

    @property
    def shown(self) -> Cell:
        """The point of the grid that a report shows in detail: the last, where an axis of growing numbers has most."""
        return self.cells[-1]

    def with_seeds(self, count: int) -> Recipe:
        """The same recipe with seeds 0 to `count` - 1."""
        return replace(self, seeds=tuple(range(count)))

    def with_rows(self, patterns: list[str]) -> Recipe:
        """Only the rows of these labels; `*` stands for anything. Raises UserError where a pattern meets no row."""
        for pattern in patterns:
            if not any(fnmatchcase(label, pattern) for label in self.rows):
                raise UserError(
                    f"recipe {self.name} has no row {pattern!r}; expected some of {', '.join(self.rows)} (* stands for anything)"
                )
        kept = {
            label: stage
            for label, stage in self.rows.items()
            if any(fnmatchcase(label, pattern) for pattern in patterns)
        }
        compare = tuple(label for label in self.compare if label in kept)
        exports = self.exports if len(kept) == len(self.rows) else ()
        headline = self.headline if self.headline in kept else ""
        return replace(self, rows=kept, compare=compare, exports=exports, headline=headline)
