"""A recipe: the YAML description of an experiment, checked before anything runs."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from ppcore.errors import UserError

KINDS = ("synth", "pseudo", "train")
REFERENCES = ("data.shards", "data.unlabeled", "model.init", "model.teacher")
"""Training settings that may name another stage of the recipe."""


@dataclass(frozen=True)
class Stage:
    """One stage: what `ppgen synth`, `ppgen pseudo` or `pptrain run` is asked for.

    Attributes:
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
    notes: tuple[str, ...] = field(default=())


_TOP = {"name", "title", "seeds", "generate", "train", "defaults", "rows", "compare", "notes"}


def named_recipes() -> list[str]:
    """Recipes that come with the package."""
    return sorted(
        p.name.removesuffix(".yaml")
        for p in files("ppflow").joinpath("recipes").iterdir()
        if p.name.endswith(".yaml")
    )


def load_recipe(name_or_file: str) -> Recipe:
    """A recipe by name or from a YAML file.

    Raises:
        UserError: no such recipe, or it does not make sense; the message says where.
    """
    if name_or_file in named_recipes():
        text = files("ppflow").joinpath(f"recipes/{name_or_file}.yaml").read_text()
    elif Path(name_or_file).is_file():
        text = Path(name_or_file).read_text()
    else:
        raise UserError(
            f"unknown recipe {name_or_file!r}; expected one of {', '.join(named_recipes())}, or a YAML file"
        )
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(
            f"recipe {name_or_file} is not valid YAML ({' '.join(str(error).split())})"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"recipe {name_or_file} is not a mapping; compare it with the recipe demo")
    return parse_recipe(content, Path(name_or_file).stem)


def parse_recipe(content: dict[str, Any], name: str) -> Recipe:
    """Check a recipe's content. Raises UserError."""
    _known(content, _TOP, f"recipe {name}")
    stages: dict[str, Stage] = {}
    defaults = content.get("defaults", {})
    for stage, given in content.get("generate", {}).items():
        settings = dict(given)
        kind, per_seed = settings.pop("kind", None), bool(settings.pop("per_seed", False))
        if kind not in ("synth", "pseudo"):
            raise UserError(f"recipe {name}: stage {stage} has kind {kind!r}; expected synth or pseudo")
        stages[stage] = Stage(stage, kind, settings, per_seed)
    for stage, given in content.get("train", {}).items():
        if stage in stages:
            raise UserError(f"recipe {name}: two stages are called {stage}; names must differ")
        stages[stage] = Stage(stage, "train", {**defaults, **(given or {})}, per_seed=True)
    for stage in list(stages.values()):
        if stage.kind == "train":
            _check_references(stage, stages, name)
    rows = {str(label): str(stage) for label, stage in content.get("rows", {}).items()}
    for label, stage_name in rows.items():
        if stage_name not in stages or stages[stage_name].kind != "train":
            raise UserError(
                f"recipe {name}: row {label!r} names {stage_name!r}, expected a training stage of the recipe"
            )
    compare = tuple(content.get("compare", ()))
    for label in compare:
        _known({label: 0}, set(rows), f"recipe {name}, compare")
    seeds = tuple(int(seed) for seed in content.get("seeds", (0,)))
    if not rows or not seeds:
        raise UserError(f"recipe {name} has no rows or no seeds; give at least one of each")
    return Recipe(
        str(content.get("name", name)),
        str(content.get("title", name)),
        seeds,
        stages,
        rows,
        compare,
        tuple(content.get("notes", ())),
    )


def with_seeds(recipe: Recipe, seeds: int) -> Recipe:
    """The same recipe with seeds 0 to `seeds` - 1."""
    values = {f.name: getattr(recipe, f.name) for f in fields(recipe)}
    return Recipe(**{**values, "seeds": tuple(range(seeds))})


def _check_references(stage: Stage, stages: dict[str, Stage], name: str) -> None:
    """Replace nothing, refuse what cannot be: references to stages of the wrong kind and cycles."""
    expected = dict(zip(REFERENCES, ("synth", "pseudo", "train", "train"), strict=True))
    for key, others in stage.references().items():
        for other in others:
            if other in stages and stages[other].kind != expected[key]:
                raise UserError(
                    f"recipe {name}: {stage.name}.{key} names the {stages[other].kind} stage {other}, expected a {expected[key]} stage"
                )
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


def _known(given: dict[str, Any], known: set[str], where: str) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(sorted(known))}"
            raise UserError(f"{where} has an unknown entry {key!r}; {hint}")
