"""The content of a recipe's YAML, checked: its types, its rows, and what its stages name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar

from pydantic import ConfigDict

from ppcore.errors import UserError
from ppcore.storage import convert
from ppflow.recipe.recipe import REFERENCES, Recipe, Stage

_WORDS = ConfigDict(coerce_numbers_to_str=True)  # YAML reads `title: 2` as a number

Settings = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class _Document:
    """The YAML file. `generate` and `train` map names of stages to settings, `defaults` are every training stage's."""

    __pydantic_config__ = _WORDS
    name: str = ""
    title: str = ""
    seeds: tuple[int, ...] = (0,)
    generate: dict[str, Settings] = field(default_factory=dict)
    train: dict[str, Settings | None] = field(default_factory=dict)
    defaults: Settings = field(default_factory=dict)
    rows: dict[str, str] = field(default_factory=dict)
    compare: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Generation:
    """What is no option of `ppgen` in a stage of `generate`."""

    kind: Literal["synth", "pseudo"]
    per_seed: bool = False


def parse_recipe(content: Mapping[str, Any], name: str) -> Recipe:
    """A recipe from its content; `name` is the file's. Raises UserError, which says where it makes no sense."""
    _require_known(content, [f.name for f in fields(_Document)], f"recipe {name}")
    document = _convert(_Document, content, f"recipe {name}")
    stages = _stages(document, name)
    for stage in stages.values():
        _check_references(stage, stages, name)
        _require_no_cycle(stage, stages, name)
    for label, stage_name in document.rows.items():
        if stage_name not in stages or stages[stage_name].kind != "train":
            raise UserError(
                f"recipe {name}: row {label!r} names {stage_name!r}, expected a training stage of the recipe"
            )
    _require_known(document.compare, document.rows, f"recipe {name}, compare")
    if not document.rows or not document.seeds:
        raise UserError(f"recipe {name} has no rows or no seeds; give at least one of each")
    return Recipe(
        name=document.name or name,
        title=document.title or name,
        seeds=document.seeds,
        stages=stages,
        rows=document.rows,
        compare=document.compare,
        notes=document.notes,
    )


def _stages(document: _Document, name: str) -> dict[str, Stage]:
    """Every stage by its name, generation first."""
    stages: dict[str, Stage] = {}
    for stage, settings in document.generate.items():
        own = {f.name: settings[f.name] for f in fields(_Generation) if f.name in settings}
        if own.get("kind") not in ("synth", "pseudo"):
            raise UserError(
                f"recipe {name}: stage {stage} has kind {own.get('kind')!r}; expected synth or pseudo"
            )
        generation = _convert(_Generation, own, f"recipe {name}: stage {stage}")
        options = {key: value for key, value in settings.items() if key not in own}
        stages[stage] = Stage(stage, generation.kind, options, generation.per_seed)
    for stage, given in document.train.items():
        if stage in stages:
            raise UserError(f"recipe {name}: two stages are called {stage}; names must differ")
        stages[stage] = Stage(stage, "train", {**document.defaults, **(given or {})}, per_seed=True)
    return stages


def _check_references(stage: Stage, stages: Mapping[str, Stage], name: str) -> None:
    """Refuse references to stages of the wrong kind."""
    for key, others in stage.references().items():
        for other in others:
            if other in stages and stages[other].kind != REFERENCES[key]:
                raise UserError(
                    f"recipe {name}: {stage.name}.{key} names the {stages[other].kind} stage {other}, expected a "
                    f"{REFERENCES[key]} stage"
                )


def _require_no_cycle(stage: Stage, stages: Mapping[str, Stage], name: str) -> None:
    seen, todo = set(), [stage.name]
    while todo:
        current = todo.pop()
        for other in (other for others in stages[current].references().values() for other in others):
            if other == stage.name:
                raise UserError(
                    f"recipe {name}: stage {stage.name} depends on itself through {current}; break the cycle"
                )
            if other in stages and other not in seen:
                seen.add(other)
                todo.append(other)


def _require_known(given: Iterable[str], known: Iterable[str], where: str) -> None:
    names = list(known)
    for key in given:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(sorted(names))}"
            raise UserError(f"{where} has an unknown entry {key!r}; {hint}")


def _convert(kind: type[T], value: Any, where: str) -> T:
    try:
        return convert(kind, value)
    except ValueError as error:
        raise UserError(f"{where} cannot be read ({error}); compare it with the recipe demo") from error
