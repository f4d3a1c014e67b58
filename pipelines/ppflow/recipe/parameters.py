"""Parameters of a recipe: the values that the command line chooses, the points of the grid, and the text that `$name` stands for."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from string import Template
from typing import Any

from ppcore.errors import UserError
from ppflow.recipe.recipe import Axis

_SECTIONS = ("train", "generate", "refit", "export")


def choose(
    content: Mapping[str, Any], parameters: Mapping[str, Any], scale: str | None, where: str
) -> dict[str, Any]:
    """The content of a recipe with the choices of the command line written into it, the scale first.

    Args:
        parameters: name of a parameter, of an axis of the grid, or `STAGE.SETTING` -> value.
        scale: name of another size of the experiment.

    Raises:
        UserError: the recipe has no such scale, parameter, axis or stage.
    """
    content = {name: dict(value) if isinstance(value, dict) else value for name, value in content.items()}
    scaled: dict[str, Any] = {}
    if scale is not None:
        scales = content.get("scales") or {}
        require_known([scale], scales, f"{where}, scales")
        scaled = dict(scales[scale] or {})
        if "seeds" in scaled:
            content["seeds"] = scaled.pop("seeds")
    params, grid = content.setdefault("params", {}), content.setdefault("grid", {})
    for name, value in [*scaled.items(), *parameters.items()]:
        if name in grid:
            grid[name] = _axis(grid[name], value, f"{where}, grid, {name}")
        elif name in params:
            params[name] = value
        else:
            _change_stage(content, name, value, where)
    return content


def _axis(axis: Axis, value: Any, where: str) -> Axis:
    """An axis with other values. Of an axis of named points, `value` selects points by name, or is a mapping of new points."""
    if isinstance(value, dict):
        return value
    values = value if isinstance(value, list) else [value]
    if not isinstance(axis, dict):
        return values
    require_known(map(str, values), axis, where)
    return {str(name): axis[str(name)] for name in values}


def _change_stage(content: dict[str, Any], name: str, value: Any, where: str) -> None:
    stage, dot, setting = name.partition(".")
    sections = [content[s] for s in _SECTIONS if stage in (content.get(s) or {})]
    if not dot or not (sections or stage == "defaults"):
        names = [*content["params"], *content["grid"]]
        raise UserError(
            f"{where} has no parameter {name!r}; expected one of {', '.join(names) or '(it has none)'}, or STAGE.SETTING"
        )
    section = content if stage == "defaults" else sections[0]
    section[stage] = {**(section.get(stage) or {}), setting: value}


def cells(content: Mapping[str, Any], where: str) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """(axis -> name of its value, all parameters) for every point of the grid. The last axis changes fastest.

    Raises:
        UserError: an axis has no values.
    """
    axes: Mapping[str, Axis] = content.get("grid") or {}
    for name, axis in axes.items():
        if not isinstance(axis, list | dict) or not axis:
            raise UserError(
                f"{where}, grid: {name} is {axis!r}; expected a list of values or a mapping of named points"
            )
    for points in itertools.product(*axes.values()):
        values = {name: str(point) for name, point in zip(axes, points, strict=True)}
        parameters = {**(content.get("params") or {}), **values}
        for name, point in zip(axes, points, strict=True):
            axis = axes[name]
            parameters |= (axis[point] or {}) if isinstance(axis, dict) else {name: point}
        yield values, parameters


def fill(value: Any, parameters: Mapping[str, Any], where: str) -> Any:
    """`value` with every `$name` replaced. A text that is only `$name` becomes the value of the parameter with its type.

    Raises:
        UserError: a name is not a parameter, or a `$` has no name.
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
    """Raise UserError for a name that is not in `known`, with the most similar known name."""
    names = list(known)
    for key in given:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1)
            expected = f"expected one of {', '.join(sorted(names))}" if names else "it has no entries"
            hint = f"did you mean {near[0]}?" if near else expected
            raise UserError(f"{where} has an unknown entry {key!r}; {hint}")
