"""Parameters of a recipe: which values they have, where `$name` stands, and the points of the grid."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from string import Template
from typing import Any

from ppcore.errors import UserError
from ppflow.recipe.document import Axis

_SECTIONS = ("train", "generate", "refit", "export")


@dataclass(frozen=True)
class Choices:
    """What a command line says of a recipe.

    Attributes:
        settings: of `--set`: a parameter, an axis of the grid, or `STAGE.SETTING`.
        scale: name of another size of the experiment.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    scale: str | None = None


def choose(content: Mapping[str, Any], choices: Choices, where: str) -> dict[str, Any]:
    """The content of a recipe with what the command line says written into it.

    Raises:
        UserError: no such scale, parameter, stage or setting to change.
    """
    content = {name: dict(value) if isinstance(value, dict) else value for name, value in content.items()}
    scale: Mapping[str, Any] = {}
    if choices.scale is not None:
        scales = content.get("scales") or {}
        require_known([choices.scale], scales, f"{where}, scales")
        scale = dict(scales[choices.scale] or {})
        if "seeds" in scale:
            content["seeds"] = scale.pop("seeds")
    for name, value in [*scale.items(), *choices.settings.items()]:
        _set(content, name, value, where)
    return content


def _set(content: dict[str, Any], name: str, value: Any, where: str) -> None:
    params, grid = content.setdefault("params", {}), content.setdefault("grid", {})
    if name in grid:
        grid[name] = _axis(grid[name], value, f"{where}, grid, {name}")
    elif name in params:
        params[name] = value
    else:
        _set_of_stage(content, name, value, where)


def _axis(axis: Axis, value: Any, where: str) -> Axis:
    """Other values of an axis; of named points, those that are named."""
    wanted = value if isinstance(value, list) else [value]
    if not isinstance(axis, dict) or isinstance(value, dict):
        return value if isinstance(value, dict) else wanted
    require_known(map(str, wanted), axis, where)
    return {str(name): axis[str(name)] for name in wanted}


def _set_of_stage(content: dict[str, Any], name: str, value: Any, where: str) -> None:
    stage, dot, setting = name.partition(".")
    if dot and stage == "defaults":
        content["defaults"] = {**(content.get("defaults") or {}), setting: value}
        return
    section = next((s for s in _SECTIONS if dot and stage in (content.get(s) or {})), None)
    if section is None:
        names = [*content["params"], *content["grid"]]
        raise UserError(
            f"{where} has no parameter {name!r}; expected one of {', '.join(names) or '(it has none)'}, or STAGE.SETTING"
        )
    content[section][stage] = {**(content[section][stage] or {}), setting: value}


def cells(content: Mapping[str, Any], where: str) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """(axis -> what it is called, all parameters) of every point of the grid, the last axis changing fastest.

    Raises:
        UserError: an axis without values.
    """
    axes: Mapping[str, Axis] = content.get("grid") or {}
    for name, axis in axes.items():
        if not isinstance(axis, list | dict) or not axis:
            raise UserError(
                f"{where}, grid: {name} is {axis!r}; expected a list of values or a mapping of named points"
            )
    points = [
        [(name, str(point), axis[point] if isinstance(axis, dict) else {name: point}) for point in axis]
        for name, axis in axes.items()
    ]
    for combination in itertools.product(*points):
        values = {axis: shown for axis, shown, _ in combination}
        parameters = dict(content.get("params") or {})
        parameters.update(values)
        for _, _, given in combination:
            parameters.update(given or {})
        yield values, parameters


def fill(value: Any, parameters: Mapping[str, Any], where: str) -> Any:
    """`value` with every `$name` replaced; a text that is nothing else takes the parameter's own type.

    Raises:
        UserError: a name that is no parameter.
    """
    if isinstance(value, Mapping):
        return {key: fill(inner, parameters, f"{where}, {key}") for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [fill(inner, parameters, where) for inner in value]
    if not isinstance(value, str) or "$" not in value:
        return value
    template = Template(value)
    if not template.is_valid():
        raise UserError(
            f"{where}: {value!r} has a stray $; write $name for a parameter, or $$ for a dollar sign"
        )
    names = template.get_identifiers()
    require_known(names, parameters, f"{where}, parameters")
    if value in {form for name in names for form in (f"${name}", f"${{{name}}}")}:
        return parameters[names[0]]
    return template.substitute(parameters)


def require_known(given: Iterable[Any], known: Iterable[str], where: str) -> None:
    """Raise UserError, with the nearest name, for a name that is not known."""
    names = list(known)
    for key in given:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1)
            expected = f"expected one of {', '.join(sorted(names))}" if names else "it has none"
            hint = f"did you mean {near[0]}?" if near else expected
            raise UserError(f"{where} has an unknown entry {key!r}; {hint}")
