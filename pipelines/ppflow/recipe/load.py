"""Recipes by name or from a YAML file: read, checked, and their parameters filled in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from graphlib import CycleError, TopologicalSorter
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter

from ppcore.errors import UserError
from ppcore.places import local_paths
from ppcore.storage import convert
from ppflow.recipe.parameters import cells, choose, fill, require_known
from ppflow.recipe.recipe import MODELS, REFERENCES, Cell, Document, Recipe, Resources, Stage
from pptrain.config import TrainConfig

T = TypeVar("T")
_UNFILLED = ("params", "grid", "scales")


def named_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = files("ppflow").joinpath("recipes")
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml"))


def recipe_text(name_or_file: str) -> str:
    """The YAML text of a recipe. Raises UserError if there is no such recipe or file."""
    if name_or_file in named_recipes():
        return files("ppflow").joinpath(f"recipes/{name_or_file}.yaml").read_text("utf-8")
    try:
        return Path(name_or_file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        if Path(name_or_file).exists():
            raise UserError(f"recipe {name_or_file} cannot be read ({error}); give a YAML file") from error
        raise UserError(
            f"unknown recipe {name_or_file!r}; expected one of {', '.join(named_recipes())}, or a YAML file"
        ) from error


def load_recipe(
    name_or_file: str, parameters: Mapping[str, Any] | None = None, scale: str | None = None
) -> Recipe:
    """A recipe by name or from a YAML file, with the choices of the command line.

    Args:
        parameters: of `--param`: name of a parameter, of an axis of the grid, or `STAGE.SETTING` -> value.
        scale: of `--scale`: name of another size of the experiment.

    Raises:
        UserError: there is no such recipe, or an entry is wrong; the message names the entry.
    """
    try:
        content: Any = local_paths(yaml.safe_load(recipe_text(name_or_file)))
    except yaml.YAMLError as error:
        raise UserError(
            f"recipe {name_or_file} is not valid YAML ({' '.join(str(error).split())})"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"recipe {name_or_file} is not a mapping; compare it with the recipe demo")
    return parse_recipe(content, Path(name_or_file).stem, parameters, scale)


def parse_recipe(
    content: Mapping[str, Any],
    name: str,
    parameters: Mapping[str, Any] | None = None,
    scale: str | None = None,
) -> Recipe:
    """A recipe from the content of its YAML, see :func:`load_recipe`; `name` is that of the file, without its ending."""
    where = f"recipe {name}"
    require_known(content, [f.name for f in fields(Document)], where)
    # The types are checked before parameters are filled in, too, so that an error names the entry as it is in the file. Rates are
    # numbers that may be given as parameters.
    _convert(Document, {key: value for key, value in content.items() if key != "rates"}, where)
    content = choose(content, parameters or {}, scale, where)
    template = {key: value for key, value in content.items() if key not in _UNFILLED}
    points: list[Cell] = []
    documents: list[Document] = []
    for values, filled in cells(content, where):
        document = _convert(Document, fill(template, filled, where), where)
        points.append(Cell(values, _stages(document, where)))
        documents.append(document)
    first = documents[0]
    _check_rows(first, points[0].stages, where)
    axes = {axis: list(values) for axis, values in (content.get("grid") or {}).items()}
    entries = {f.name: getattr(first, f.name) for f in fields(Document)}
    entries |= {"name": first.name or name, "title": first.title or name}
    return Recipe(**entries, cells=tuple(points), parameters=dict(content.get("params") or {}) | axes)


def _check_rows(document: Document, stages: Mapping[str, Stage], where: str) -> None:
    for label, stage in document.rows.items():
        if stage not in stages or stages[stage].kind not in MODELS:
            raise UserError(
                f"{where}: row {label!r} names {stage!r}, expected a training stage of the recipe"
            )
    require_known(document.compare, document.rows, f"{where}, compare")
    require_known([document.headline] if document.headline else [], document.rows, f"{where}, headline")
    if not document.rows or not document.seeds:
        raise UserError(f"{where} has no rows or no seeds; give at least one of each")
    if len(set(document.seeds)) != len(document.seeds):
        raise UserError(f"{where} has a seed twice ({document.seeds}); give every seed once")


def _stages(document: Document, where: str) -> dict[str, Stage]:
    """Every stage by its name, generation first, its references checked."""
    stages: dict[str, Stage] = {}

    def add(name: str, kind: str, settings: Mapping[str, Any], per_seed: bool) -> None:
        if name in stages:
            raise UserError(f"{where}: two stages are called {name}; rename one")
        settings = {key: value for key, value in settings.items() if value is not None}
        resources = settings.pop("resources", {})
        if isinstance(resources, dict):
            require_known(resources, [f.name for f in fields(Resources)], f"{where}: stage {name}, resources")
        resources = _convert(Resources, resources, f"{where}: stage {name}, resources")
        stages[name] = Stage(name, kind, settings, per_seed, resources)

    for name, settings in document.generate.items():
        options = dict(settings)
        kind, per_seed = options.pop("kind", None), options.pop("per_seed", False)
        if kind not in ("synth", "pseudo"):
            raise UserError(f"{where}: stage {name} has kind {kind!r}; expected synth or pseudo")
        add(name, kind, options, _convert(bool, per_seed, f"{where}: stage {name}, per_seed"))
    for name, given in document.train.items():
        add(name, "train", {**document.defaults, **(given or {})}, per_seed=True)
    for name, settings in document.refit.items():
        if not settings.get("candidates"):
            raise UserError(f"{where}: stage {name} has no candidates; name training stages to choose from")
        add(name, "refit", settings, per_seed=True)
    for name, settings in document.export.items():
        if not settings.get("model"):
            raise UserError(f"{where}: stage {name} names no model; give the training stage to export")
        add(name, "export", settings, per_seed=False)
    for stage in stages.values():
        _check_references(stage, stages, where)
    needs = {s.name: [n for names in s.references().values() for n in names] for s in stages.values()}
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        raise UserError(
            f"{where}: stages depend on each other in a circle ({' < '.join(error.args[1])}); remove a reference"
        ) from error
    return stages


def _check_references(stage: Stage, stages: Mapping[str, Stage], where: str) -> None:
    """Refuse references to stages of the wrong kind, and from a stage that all seeds share to one that each seed has of its own."""
    for key, others in stage.references().items():
        for other in others:
            if other not in stages:
                if stage.kind in ("refit", "export"):
                    require_known([other], stages, f"{where}: {stage.name}.{key}")
                continue
            if stages[other].kind not in REFERENCES[key]:
                raise UserError(
                    f"{where}: {stage.name}.{key} names the {stages[other].kind} stage {other}, expected a "
                    f"{' or '.join(REFERENCES[key])} stage"
                )
            if stages[other].per_seed and not stage.per_seed and stage.kind != "export":
                raise UserError(
                    f"{where}: {stage.name}.{key} names {other}, which runs once for each seed; give {stage.name} per_seed: true"
                )


def _convert(kind: type[T], value: Any, where: str) -> T:
    try:
        return convert(kind, value)
    except ValueError as error:
        raise UserError(f"{where} cannot be read ({error}); compare it with the recipe demo") from error


_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_OPEN = [{"type": "string", "pattern": r"\$"}, {"type": "null"}]  # `$parameter`; null leaves the setting out


def recipe_schema() -> str:
    """The schema as JSON text. To use it, write `# yaml-language-server: $schema=FILE` in the first line of a recipe."""
    content: dict[str, Any] = TypeAdapter(Document).json_schema()
    definitions = content.setdefault("$defs", {})
    definitions["Training"] = _training()
    stage = {"$ref": "#/$defs/Training"}
    properties = content["properties"]
    properties["defaults"] = {**stage, "description": properties["defaults"]["description"]}
    rates = definitions["Rates"]["properties"]
    definitions["Rates"]["properties"] = {name: _setting(field) for name, field in rates.items()}
    properties["train"]["additionalProperties"] = {"anyOf": [stage, {"type": "null"}]}
    return json.dumps({"$schema": _DRAFT, **content, "title": "ppflow recipe"}, indent=1)


def _training() -> dict[str, Any]:
    """The settings of a training stage under their dotted names."""
    whole = TypeAdapter(TrainConfig).json_schema()
    sections = whole["$defs"]
    settings: dict[str, Any] = {}
    for name, field in whole["properties"].items():
        section = sections.get(str(field.get("$ref", "")).rpartition("/")[2])
        if section is None:
            settings[name] = _setting(field)
            continue
        settings.update({f"{name}.{inner}": _setting(f) for inner, f in section["properties"].items()})
    settings["resources"] = TypeAdapter(Resources).json_schema()
    trust = "Run the code that the initial model or the teacher names, as --trust-code does."
    settings["trust_code"] = {"type": "boolean", "description": trust}
    return {"type": "object", "properties": settings, "additionalProperties": False}


def _setting(field: dict[str, Any]) -> dict[str, Any]:
    """The type of a field, or a parameter in its place. A list may be given as one value, as everywhere in pptrain."""
    kinds: list[dict[str, Any]] = [field, *_OPEN]
    if field.get("type") == "array":
        kinds.append(field["items"])
    return {"anyOf": kinds}
