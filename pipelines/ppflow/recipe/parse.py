"""The content of a recipe's YAML, checked: its types, its parameters, its rows, and what its stages name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from ppcore.errors import UserError
from ppcore.storage import convert
from ppflow.recipe.document import Document, Generation, Settings
from ppflow.recipe.parameters import Choices, cells, choose, fill, require_known
from ppflow.recipe.recipe import MODELS, REFERENCES, Cell, Recipe, Resources, Stage

T = TypeVar("T")
_UNFILLED = ("params", "grid", "scales")


def parse_recipe(content: Mapping[str, Any], name: str, choices: Choices | None = None) -> Recipe:
    """A recipe from its content; `name` is the file's. Raises UserError, which says where it makes no sense."""
    where = f"recipe {name}"
    require_known(content, [f.name for f in fields(Document)], where)
    sections = {key: value for key, value in content.items() if key != "rates"}
    _convert(Document, sections, where)  # before anything is filled in
    content = choose(content, choices or Choices(), where)
    parsed, documents = [], []
    for values, parameters in cells(content, where):
        rest = {key: value for key, value in content.items() if key not in _UNFILLED}
        document = _convert(Document, fill(rest, parameters, where), where)
        parsed.append(Cell(values, _checked_stages(document, name)))
        documents.append(document)
    first = documents[0]
    _check_rows(first, parsed[0].stages, name)
    return Recipe(
        name=first.name or name,
        title=first.title or name,
        seeds=first.seeds,
        cells=tuple(parsed),
        rows=first.rows,
        compare=first.compare,
        exports=tuple(first.export),
        headline=first.headline,
        notes=first.notes,
        parameters=dict(content.get("params") or {})
        | {k: list(v) for k, v in (content.get("grid") or {}).items()},
        rates=first.rates,
    )


def _check_rows(document: Document, stages: Mapping[str, Stage], name: str) -> None:
    for label, stage_name in document.rows.items():
        if stage_name not in stages or stages[stage_name].kind not in MODELS:
            raise UserError(
                f"recipe {name}: row {label!r} names {stage_name!r}, expected a training stage of the recipe"
            )
    require_known(document.compare, document.rows, f"recipe {name}, compare")
    require_known([document.headline] if document.headline else [], document.rows, f"recipe {name}, headline")
    if not document.rows or not document.seeds:
        raise UserError(f"recipe {name} has no rows or no seeds; give at least one of each")
    if len(set(document.seeds)) != len(document.seeds):
        raise UserError(f"recipe {name} has a seed twice ({document.seeds}); give every seed once")


def _checked_stages(document: Document, name: str) -> dict[str, Stage]:
    stages = _stages(document, name)
    for stage in stages.values():
        _check_references(stage, stages, name)
        _require_no_cycle(stage, stages, name)
    return stages


def _stages(document: Document, name: str) -> dict[str, Stage]:
    """Every stage by its name, generation first."""
    stages: dict[str, Stage] = {}

    def add(stage: Stage) -> None:
        if stage.name in stages:
            raise UserError(f"recipe {name}: two stages are called {stage.name}; names must differ")
        settings = {key: value for key, value in stage.settings.items() if value is not None}
        where = f"recipe {name}: stage {stage.name}, resources"
        given = settings.pop("resources", {})
        if isinstance(given, dict):
            require_known(given, [f.name for f in fields(Resources)], where)
        stages[stage.name] = replace(stage, settings=settings, resources=_convert(Resources, given, where))

    for stage, settings in document.generate.items():
        add(_generation(stage, settings, name))
    for stage, given in document.train.items():
        add(Stage(stage, "train", {**document.defaults, **(given or {})}, per_seed=True))
    for stage, settings in document.refit.items():
        if not settings.get("candidates"):
            raise UserError(
                f"recipe {name}: stage {stage} has no candidates; name training stages to choose from"
            )
        add(Stage(stage, "refit", dict(settings), per_seed=True))
    for stage, settings in document.export.items():
        if not settings.get("model"):
            raise UserError(f"recipe {name}: stage {stage} names no model; give the training stage to export")
        add(Stage(stage, "export", dict(settings), per_seed=False))
    return stages


def _generation(stage: str, settings: Settings, name: str) -> Stage:
    own = {f.name: settings[f.name] for f in fields(Generation) if f.name in settings}
    if own.get("kind") not in ("synth", "pseudo"):
        raise UserError(
            f"recipe {name}: stage {stage} has kind {own.get('kind')!r}; expected synth or pseudo"
        )
    generation = _convert(Generation, own, f"recipe {name}: stage {stage}")
    options = {key: value for key, value in settings.items() if key not in own}
    return Stage(stage, generation.kind, options, generation.per_seed)


def _check_references(stage: Stage, stages: Mapping[str, Stage], name: str) -> None:
    """Refuse references to stages of the wrong kind, and of what all seeds share to what every seed has of its own."""
    for key, others in stage.references().items():
        for other in others:
            if other in stages and stages[other].kind not in REFERENCES[key]:
                raise UserError(
                    f"recipe {name}: {stage.name}.{key} names the {stages[other].kind} stage {other}, expected a "
                    f"{' or '.join(REFERENCES[key])} stage"
                )
            if other in stages and stages[other].per_seed and not stage.per_seed and stage.kind != "export":
                raise UserError(
                    f"recipe {name}: {stage.name}.{key} names {other}, which every seed trains anew; give {stage.name} per_seed: true"
                )
            if other not in stages and stage.kind in ("refit", "export"):
                require_known([other], stages, f"recipe {name}: {stage.name}.{key}")


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


def _convert(kind: type[T], value: Any, where: str) -> T:
    try:
        return convert(kind, value)
    except ValueError as error:
        raise UserError(f"{where} cannot be read ({error}); compare it with the recipe demo") from error
