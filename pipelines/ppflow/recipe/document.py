"""The types of a recipe's YAML; its JSON schema for editors is made from them (`ppflow schema`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from ppflow.recipe.recipe import Rates

_WORDS = ConfigDict(coerce_numbers_to_str=True, extra="forbid")  # YAML reads `title: 2` as a number

Settings = dict[str, Any]
Axis = list[Any] | dict[str, Settings]
"""Values of a parameter; or named points, each a value for several parameters."""


@dataclass(frozen=True)
class Document:
    """An experiment of ppflow.

    `$name` stands for the value of a parameter or of a grid's axis anywhere below, `$$` for a dollar sign; a setting whose value is
    null is left out.
    """

    __pydantic_config__ = _WORDS
    name: Annotated[str, Field(description="Directory under runs/ [default: the file's name].")] = ""
    title: Annotated[str, Field(description="Heading of the report.")] = ""
    seeds: Annotated[tuple[int, ...], Field(description="Every training stage runs once with each.")] = (0,)
    params: Annotated[
        Settings, Field(description="Parameters and their values; --set NAME=VALUE changes one.")
    ] = field(default_factory=dict)
    grid: Annotated[
        dict[str, Axis],
        Field(
            description="Axis -> its values, or named points of several parameters; the rows are run at every combination."
        ),
    ] = field(default_factory=dict)
    scales: Annotated[
        dict[str, Settings],
        Field(
            description="Name -> parameters, axes and `seeds` of an experiment of another size: --scale NAME."
        ),
    ] = field(default_factory=dict)
    generate: Annotated[dict[str, Settings], Field(description="Stages of ppgen.")] = field(
        default_factory=dict
    )
    train: Annotated[dict[str, Settings | None], Field(description="Stages of pptrain.")] = field(
        default_factory=dict
    )
    defaults: Annotated[Settings, Field(description="Settings of every training stage.")] = field(
        default_factory=dict
    )
    refit: Annotated[
        dict[str, Settings],
        Field(
            description="Stages that train the candidate which did best on validation images again, on all labels."
        ),
    ] = field(default_factory=dict)
    export: Annotated[dict[str, Settings], Field(description="Classifiers to write as one ONNX file.")] = (
        field(default_factory=dict)
    )
    rows: Annotated[dict[str, str], Field(description="Label in the table -> training stage.")] = field(
        default_factory=dict
    )
    compare: Annotated[tuple[str, ...], Field(description="Rows that the others are compared with.")] = ()
    headline: Annotated[str, Field(description="The row that the run ends with a sentence about.")] = ""
    notes: Annotated[tuple[str, ...], Field(description="Sentences under the table.")] = ()
    rates: Annotated[Rates, Field(description="What --dry-run reckons with where nothing was measured.")] = (
        field(default_factory=Rates)
    )


@dataclass(frozen=True)
class Generation:
    """What is no option of `ppgen` in a stage of `generate`."""

    kind: Literal["synth", "pseudo"]
    per_seed: bool = False
