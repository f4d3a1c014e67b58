"""The types of a recipe: its YAML (:class:`Document`), and the experiment that it becomes (:class:`Recipe`)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from pydantic import ConfigDict

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
"""Settings that may name another stage of the recipe -> the kinds that this stage may have."""

Settings = dict[str, Any]
Axis = list[Any] | dict[str, Settings]
"""Values of one parameter; or named points, each with values for several parameters."""


@dataclass(frozen=True)
class Resources:
    """What one job of a stage takes: CPUs, GPUs (below 1: a share of one), and memory in GB (used on Ray only)."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory_gb: float = 0.0


@dataclass(frozen=True)
class Rates:
    """Speeds that `--dry-run` assumes for a stage of which no job has finished yet.

    Attributes:
        images_per_s: of one generation worker.
        train_images_per_s: of one training process, labelled and unlabelled images together.
        source: where these numbers come from.
    """

    images_per_s: float | None = None
    train_images_per_s: float | None = None
    source: str = ""


@dataclass(frozen=True)
class Document:
    """An experiment of ppflow.

    `$name` anywhere below stands for the value of a parameter or of an axis of the grid, `$$` for a dollar sign. A setting whose
    value is null is left out.
    """

    # YAML reads `title: 2` as a number. The docstrings below are the descriptions in the JSON schema (`ppflow schema`).
    __pydantic_config__ = ConfigDict(
        coerce_numbers_to_str=True, extra="forbid", use_attribute_docstrings=True
    )
    name: str = ""
    """Directory under runs/ [default: the name of the file]."""
    title: str = ""
    """Heading of the report."""
    seeds: tuple[int, ...] = (0,)
    """Every training stage runs once with each seed."""
    params: Settings = field(default_factory=dict)
    """Parameters and their values; --param NAME=VALUE changes one."""
    grid: dict[str, Axis] = field(default_factory=dict)
    """Axis -> its values, or named points with values for several parameters. The rows run at every combination."""
    scales: dict[str, Settings] = field(default_factory=dict)
    """Name -> parameters, axes and `seeds` of the experiment in another size: --scale NAME."""
    generate: dict[str, Settings] = field(default_factory=dict)
    """Stages of ppgen."""
    train: dict[str, Settings | None] = field(default_factory=dict)
    """Stages of pptrain."""
    defaults: Settings = field(default_factory=dict)
    """Settings of every training stage."""
    refit: dict[str, Settings] = field(default_factory=dict)
    """Stages that take the candidate with the best validation accuracy and train it again, on all labels."""
    export: dict[str, Settings] = field(default_factory=dict)
    """Classifiers to write as one ONNX file."""
    rows: dict[str, str] = field(default_factory=dict)
    """Label in the table -> training stage."""
    compare: tuple[str, ...] = ()
    """Rows that the others are compared with."""
    headline: str = ""
    """The row that the last sentences of the output are about."""
    notes: tuple[str, ...] = ()
    """Sentences under the table."""
    rates: Rates = field(default_factory=Rates)
    """Speeds that --dry-run assumes where none was measured."""


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        kind: `synth` or `pseudo` (commands of ppgen), `train` (`pptrain run`), `refit` (train the best candidate again, on all
            labels) or `export` (write a classifier as one file).
        settings: synth, pseudo: options by their long names, with `_` for `-`; train: settings by their dotted names.
        per_seed: whether each seed has its own run of the stage; always true for training stages.
    """

    name: str
    kind: str
    settings: Settings
    per_seed: bool
    resources: Resources = field(default_factory=Resources)

    def references(self) -> dict[str, list[str]]:
        """Setting -> the stages of the recipe, or the things outside it, that the setting names."""
        values = {key: self.settings[key] for key in REFERENCES if key in self.settings}
        return {
            key: [str(v) for v in value] if isinstance(value, list) else [str(value)]
            for key, value in values.items()
        }


@dataclass(frozen=True)
class Cell:
    """A point of the grid.

    Attributes:
        values: axis -> name of its value at this point; empty without a grid.
        stages: with the parameters of this point.
    """

    values: dict[str, str]
    stages: dict[str, Stage]

    @property
    def group(self) -> str:
        """`labels 2, target cars`."""
        return ", ".join(f"{axis} {value}" for axis, value in self.values.items())


@dataclass(frozen=True)
class Recipe(Document):
    """A document in which every parameter has its value.

    Attributes:
        cells: the points of the grid; one without a grid. The fields of the document have the values of the first point.
        parameters: name -> value, or the values of an axis.
    """

    cells: tuple[Cell, ...] = ()
    parameters: Settings = field(default_factory=dict)

    @property
    def shown(self) -> Cell:
        """The point of the grid that a report shows in detail: the last one, which usually has the most labels."""
        return self.cells[-1]

    def with_seeds(self, count: int) -> Recipe:
        """The same recipe with seeds 0 to `count` - 1."""
        return replace(self, seeds=tuple(range(count)))

    def with_rows(self, patterns: list[str]) -> Recipe:
        """Only the rows with these labels; `*` matches any text. Raises UserError if a pattern matches no row."""
        for pattern in patterns:
            if not any(fnmatchcase(label, pattern) for label in self.rows):
                raise UserError(
                    f"recipe {self.name} has no row {pattern!r}; expected one of {', '.join(self.rows)} (* matches any text)"
                )
        kept = {
            label: stage
            for label, stage in self.rows.items()
            if any(fnmatchcase(label, pattern) for pattern in patterns)
        }
        return replace(
            self,
            rows=kept,
            compare=tuple(label for label in self.compare if label in kept),
            export=self.export if len(kept) == len(self.rows) else {},
            headline=self.headline if self.headline in kept else "",
        )
