"""Commands whose parameters are dataclasses of options: typer sees each field as one option."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

from ppcore.errors import UserError
from ppgen.options import PseudoOptions, SynthOptions

Options = TypeVar("Options")


def flatten(command: Callable[..., None]) -> Callable[..., None]:
    """The command with each parameter that is a dataclass replaced by the fields of that dataclass."""
    hints = get_type_hints(command, include_extras=True)
    own = inspect.signature(command).parameters

    @functools.wraps(command)
    def flat(**values: Any) -> None:
        command(
            **{
                name: assemble(hints[name], values) if is_dataclass(hints[name]) else values[name]
                for name in own
            }
        )

    flattened: list[inspect.Parameter] = []
    for name, parameter in own.items():
        if is_dataclass(hints[name]):
            flattened += option_parameters(hints[name])
        else:
            flattened.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name]))
    # typer reads both
    flat.__signature__ = inspect.Signature(flattened)  # type: ignore[attr-defined]
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in flattened}
    return flat


def option_parameters(kind: type) -> Iterator[inspect.Parameter]:
    """The fields of a dataclass of options. A field that is a dataclass itself is replaced by its fields."""
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        if is_dataclass(hints[field.name]):
            yield from option_parameters(hints[field.name])
            continue
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        annotation = hints[field.name]
        if "option" in field.metadata:
            annotation = Annotated[annotation, field.metadata["option"]]
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
        )


def long_name(parameter: inspect.Parameter) -> str:
    """Name of an option on the command line, without the dashes and with `_` for `-`: `format` for `--format`."""
    for info in get_args(parameter.annotation)[1:]:
        # typer stores the first name of an annotated option in the attribute `default`
        for declared in (getattr(info, "default", None), *(getattr(info, "param_decls", None) or ())):
            if isinstance(declared, str) and declared.startswith("--"):
                return declared.removeprefix("--").replace("-", "_")
    return parameter.name


def assemble(kind: type[Options], values: Mapping[str, Any]) -> Options:
    """The dataclass of options with these values; options that are not given keep their defaults."""
    hints = get_type_hints(kind)
    given = {}
    for field in fields(kind):  # type: ignore[arg-type]
        if is_dataclass(hints[field.name]):
            given[field.name] = assemble(hints[field.name], values)
        elif field.name in values:
            given[field.name] = values[field.name]
    return kind(**given)


def read_options(command: str, values: Mapping[str, Any]) -> SynthOptions | PseudoOptions:
    """The options of `ppgen synth` or `ppgen pseudo`, from a mapping of long names with `_` for `-` to values.

    Raises:
        UserError: the command has no such option, a required option is missing, or a value is not allowed.
    """
    kind: type[SynthOptions | PseudoOptions] = {"synth": SynthOptions, "pseudo": PseudoOptions}[command]
    known = {long_name(parameter): parameter for parameter in option_parameters(kind)}
    for name in values:
        if name not in known:
            raise UserError(
                f"ppgen {command} has no option {name!r}; expected some of {', '.join(sorted(known))}"
            )
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in values:
            raise UserError(f"ppgen {command} needs the option {name!r}; give it")
    return assemble(kind, {known[name].name: value for name, value in values.items()})
