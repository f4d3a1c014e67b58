"""What the three programs have in common on the command line: `--version`, shell completion, the layout of `--help`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from ppcore import SHARD_FORMAT, __version__

WHAT = "What"
HOW_MUCH = "How much"
WHERE_TO = "Where to"
MACHINES = "On which machines"
EXPERTS = "For experts"
_NAME_COLUMN = 28  # characters; the text of an option with a longer name begins on the next line
GROUPS = (WHAT, HOW_MUCH, WHERE_TO, MACHINES, EXPERTS)
"""The groups of options in `--help`, in the order in which they are printed. Options without a group come last."""


def option(group: str, text: str, *names: str, **settings: Any) -> Any:
    """A typer option that `--help` prints under `group`.

    Args:
        group: one of :data:`GROUPS`.
        text: what the option does. If the default is computed, the text ends in `[default: ...]`. `--help` adds every other
            default by itself.
        names: names on the command line (default: the parameter's name with `-` for `_`).
        settings: other arguments of `typer.Option`.
    """
    return typer.Option(*names, help=text, rich_help_panel=group, **settings)


READING = {
    "classes_from": "Where classes are named: folder:N (N-th folder below the split, -1 is the last), column:NAME or regex:PATTERN. "
    "[default: by the files]",
    "image_column": "Column of a target's tables with the images or their files. [default: by its name]",
    "label_column": "Column of a target's tables with the labels. [default: by its name]",
    "split": "Where splits are named: none, folder or column:NAME. [default: by the files]",
}
"""The options that settle how a target is read, and their help; see :class:`ppcore.targets.ReadOptions`."""


class App(typer.Typer):
    """A typer application with plain help: no boxes, options in groups, every default shown, no name cut."""

    def __init__(self, about: str | None = None) -> None:
        super().__init__(
            help=about,
            cls=_Group,
            no_args_is_help=True,
            rich_markup_mode=None,  # otherwise typer reads [default: ...] as markup and drops it
            pretty_exceptions_enable=False,
        )

    def command(self, name: str | None = None, **settings: Any) -> Callable[..., Any]:
        """Register a function as a command, see `typer.Typer.command`."""
        return super().command(name, cls=_Command, **settings)


def new_app(name: str, about: str) -> App:
    """An application without commands; `name` is what its users type."""
    app = App(about)

    def show_version(asked: bool) -> None:
        if asked:
            print(f"{name} {__version__}, shard format {SHARD_FORMAT}")
            raise typer.Exit

    @app.callback(help=about)
    def begin(
        version: bool = typer.Option(
            False, "--version", callback=show_version, is_eager=True, help="Print the version."
        ),
    ) -> None:
        """The options of the program itself act in their callbacks."""

    return app


class _Command(TyperCommand):
    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_parameters(self, ctx, formatter)

    def get_short_help_str(self, limit: int = 0) -> str:
        """The first paragraph, whole: typer cuts it at `limit` characters."""
        return " ".join((self.help or "").strip().split("\n\n")[0].split())


class _Group(TyperGroup):
    def format_options(self, ctx: Any, formatter: Any) -> None:
        self.format_commands(ctx, formatter)
        _write_parameters(self, ctx, formatter)

    get_short_help_str = _Command.get_short_help_str


def _write_parameters(command: TyperCommand | TyperGroup, ctx: Any, formatter: Any) -> None:
    sections: dict[str, list[tuple[str, str]]] = {name: [] for name in ("Arguments", *GROUPS, "Options")}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is None:  # hidden
            continue
        argument = parameter.param_type_name == "argument"
        section = "Arguments" if argument else getattr(parameter, "rich_help_panel", None) or "Options"
        sections[section].append((_name(record[0]), _text(parameter)))
    lengths = [len(name) for rows in sections.values() for name, _ in rows]
    width = max((length for length in lengths if length <= _NAME_COLUMN), default=0)
    for section, rows in sections.items():
        if rows:
            with formatter.section(section):
                formatter.write_dl([(name.ljust(width), text) for name, text in rows], _NAME_COLUMN)


def _name(shown: str) -> str:
    """`--shards <list[str]>` -> `--shards <str>...`; `--top <int range>` -> `--top <int>`."""
    many = "" if "..." in shown else "..."  # arguments have their dots behind the name
    return re.sub(r"<list\[(.*)\]>", rf"<\1>{many}", shown).replace(" range>", ">")


def _text(parameter: Any) -> str:
    """The help text of an option or argument with its default, or that it is required."""
    text = " ".join((parameter.help or "").split())
    if parameter.required:
        return f"{text} [required]"
    # --help and --version are eager: they act at once and have no value to show.
    if parameter.is_eager or parameter.default is None or "[default: " in text:
        return text
    if isinstance(parameter.default, bool):
        return f"{text} [default: {'on' if parameter.default else 'off'}]"
    return f"{text} [default: {parameter.default}]"
