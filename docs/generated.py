"""A mkdocs hook that adds pages: references made from the code, and copies of files from elsewhere in the repository."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import griffe
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import TypeAdapter
from typer.main import get_command

from ppcore.targets import NAMED
from ppflow.cli import app as ppflow
from ppflow.recipe import recipe_schema
from ppgen.cli import app as ppgen
from ppgen.sources import source_rows
from pptrain.cli import app as pptrain
from pptrain.config import TrainConfig
from pptrain.methods import METHODS

ROOT = Path(__file__).parents[1]
COPIES = {
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "explanation/architecture.md": "ARCHITECTURE.md",
    "howto/machines.md": "docker/README.md",
}
"""Page -> the file that it shows."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages. mkdocs calls this after it has listed the files of docs/."""
    for page, text in {**generated(), **copied()}.items():
        files.append(File.generated(config, page, content=text))
    return files


def generated() -> dict[str, str]:
    """Page -> Markdown, of the pages made from the code."""
    return {
        **{f"reference/{name}.md": commands(name, app) for name, app in PROGRAMS.items()},
        "reference/settings.md": settings(),
        "reference/methods.md": methods(),
        "reference/recipes.md": recipes(),
        "reference/catalogue.md": catalogue(),
    }


def copied() -> dict[str, str]:
    """Page -> Markdown, of the files from elsewhere. Links between these files become links between pages."""
    pages = {file: page for page, file in COPIES.items()}

    def link(match: re.Match[str], page: str) -> str:
        up = "../" * page.count("/")
        target = pages.get(match[1], match[1].removeprefix("docs/"))
        return f"]({up}{target})"

    return {
        page: re.sub(r"\]\(((?!\w+:)[^)#]+)\)", lambda m, page=page: link(m, page), (ROOT / file).read_text())
        for page, file in COPIES.items()
    }


# ---- commands

PROGRAMS = {"ppgen": ppgen, "pptrain": pptrain, "ppflow": ppflow}


def commands(name: str, app: typer.Typer) -> str:
    """Every command of a program with its arguments and options, in the groups of `--help`."""
    root: Any = get_command(app)
    context = typer.Context(root, info_name=name)
    links = [
        (f"[`{name} {one}`](#{name}-{one})", _escaped(command.help or "").split("\n\n")[0])
        for one, command in root.commands.items()
    ]
    parts = [f"# {name}\n\n{root.help}\n", table(("command", "what it does"), links)]
    for one, command in root.commands.items():
        parts += _command_parts(command, typer.Context(command, info_name=one, parent=context), 2)
    return "\n".join(parts)


def _command_parts(command: Any, context: Any, level: int) -> list[str]:
    """The Markdown of a command and of the commands below it."""
    path = context.command_path
    usage = " ".join((path, *command.collect_usage_pieces(context)))
    about = inspect.cleandoc(_escaped(command.help or ""))
    parts = [f"{'#' * level} `{path}`\n\n{about}\n", f"```text\n{usage}\n```\n"]
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            parts += _command_parts(inner, typer.Context(inner, info_name=name, parent=context), level + 1)
        return parts
    sections = _Sections()
    command.format_options(context, sections)
    for section, rows in sections.rows.items():
        cells = [(f"`{option}`", *_text_and_default(text)) for option, text in rows if option != "--help"]
        if cells:
            parts += [f"**{section}**\n", table(("option", "what it does", "default"), cells)]
    return parts


class _Sections:
    """Stands in for click's help formatter and keeps the rows of each section."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[str, str]]] = {}
        self._section = ""

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        self._section = name
        yield

    def write_dl(self, rows: list[tuple[str, str]], *_: int) -> None:
        self.rows[self._section] = [(name.strip(), text) for name, text in rows]


def _text_and_default(text: str) -> tuple[str, str]:
    """`Side in pixels. [default: 32]` -> (`Side in pixels.`, `32`)."""
    match = re.fullmatch(r"(.*?)\s*\[(?:default: (.*)|(required))\]", text, re.DOTALL)
    return (_escaped(match[1]), _escaped(match[2] or match[3])) if match else (_escaped(text), "")


def _escaped(text: str) -> str:
    """The text with `<` outside code spans as an entity, which Markdown would take for HTML."""
    return re.sub(r"`[^`\n]*`|<", lambda match: "&lt;" if match[0] == "<" else match[0], text)


# ---- settings


def table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """A Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines) + "\n"


def _cell(value: Any) -> str:
    text = re.sub(r":\w+:`(?:[\w.]*\.)?(\w+)`", r"`\1`", " ".join(str(value).split()))  # Sphinx' references
    return text.replace("|", "\\|")


def described(kind: type, section: str) -> dict[str, str]:
    """Field -> description, from this section of the docstrings of a class and its parents."""
    found: dict[str, str] = {}
    for parent in reversed(kind.__mro__):
        text = inspect.cleandoc(parent.__doc__ or "").replace(f"{section}:\n", "Attributes:\n")
        text = re.sub(
            r"^( +\w+(?:, \w+)+):", lambda match: match[0].replace(", ", "+"), text, flags=re.MULTILINE
        )
        for part in griffe.Docstring(text, parser="google").parse(warnings=False):
            if part.kind is griffe.DocstringSectionKind.attributes:
                for item in part.value:
                    names = item.name.split("+")
                    found.update(dict.fromkeys(names, item.description))
    return found


def _values(field: dict[str, Any]) -> str:
    """The allowed values of a field, in words, from its JSON schema."""
    if "anyOf" in field:
        return " or ".join(_values(kind) for kind in field["anyOf"])
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {_values(field['items'])}"
    bounds = {"minimum": ">=", "exclusiveMinimum": ">", "exclusiveMaximum": "<", "maximum": "<="}
    limits = [f"{sign} {field[name]:g}" for name, sign in bounds.items() if name in field]
    return " ".join([field.get("type", "anything"), ", ".join(limits)]).strip()


def _defaults(kind: Any) -> dict[str, str]:
    made = kind()
    return {field.name: f"`{json.dumps(getattr(made, field.name))}`" for field in fields(kind)}


def settings() -> str:
    """Every setting of `pptrain`."""
    whole = TypeAdapter(TrainConfig).json_schema()
    types = {field.name: field.default_factory for field in fields(TrainConfig)}
    parts = [
        "# Settings of a training run\n\nChange a setting with `pptrain run --set section.name=value`, or write several to a YAML file and "
        "give it with `--config FILE`. `config.yaml` in a run directory holds all settings of that run. Recipes of `ppflow` use the same "
        "names. [What you leave out follows from the data](../howto/trainer.md#what-pptrain-run-chooses-by-itself).\n",
        table(
            ("setting", "values", "default"),
            [("`out`", "string", "under `runs/`"), ("`seed`", "integer >= 0", "`0`")],
        ),
    ]
    for name, field in whole["properties"].items():
        section = whole["$defs"].get(str(field.get("$ref", "")).rpartition("/")[2])
        if section is None:
            continue
        kind: Any = types[name]
        about, default = described(kind, "Attributes"), _defaults(kind)
        rows = [
            (f"`{name}.{inner}`", _values(f), default[inner], about.get(inner, ""))
            for inner, f in section["properties"].items()
        ]
        title = (kind.__doc__ or "").split("\n")[0]
        parts += [f"## {name}\n\n{title}\n", table(("setting", "values", "default", "what it is"), rows)]
    return "\n".join(parts)


def methods() -> str:
    """Every training method with its options."""
    parts = [
        "# Training methods\n\nChoose one with `pptrain run --method NAME`, and set its options with `--set method.options.NAME=VALUE`. "
        "The defaults below are the published ones. [How they compare](../results.md#every-training-method) on the demo's task.\n"
    ]
    for name, kind in METHODS.items():
        text = inspect.cleandoc(kind.__doc__ or "").split("Options:")[0].strip()
        schema, about = TypeAdapter(kind).json_schema()["properties"], described(kind, "Options")
        default = _defaults(kind)
        rows = [(f"`{o}`", _values(f), default[o], about.get(o, "")) for o, f in schema.items()]
        parts += [
            f"## {name}\n\n{text}\n",
            table(("option", "values", "default", "what it is"), rows) if rows else "",
        ]
    return "\n".join(parts)


def recipes() -> str:
    """The fields of a recipe, the recipe of the demo, and the JSON schema."""
    schema = json.loads(recipe_schema())
    rows = [(f"`{name}`", field.get("description", "")) for name, field in schema["properties"].items()]
    shipped = (ROOT / "pipelines/ppflow/recipes/demo.yaml").read_text()
    return (
        f"# Recipes\n\n{schema['description']}\n\n{table(('field', 'what it is'), rows)}\n"
        "- A stage of `generate` takes `kind`, `per_seed` and the options of [ppgen synth](ppgen.md#ppgen-synth) or "
        "[ppgen pseudo](ppgen.md#ppgen-pseudo), written with underscores.\n"
        "- A stage of `train` takes the [settings of a training run](settings.md).\n"
        "- `data.shards`, `data.unlabeled`, `model.init`, `model.teacher` and the `classifier` of a pseudo stage may name a stage.\n\n"
        "`ppflow list` lists the recipes of the package. `ppflow schema` prints the JSON schema, with which editors complete and check "
        "YAML. The recipe of the demo:\n\n"
        f"```yaml\n{shipped}```\n\n"
        f'??? note "The JSON schema"\n\n    ```json\n{_indented(json.dumps(schema, indent=1))}\n    ```\n'
    )


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


# ---- catalogue

SOURCES = """`--source` takes a name of this table, a directory in the diffusers layout, a hub id, `package.module:callable`, or
`bank:DIR`
([add a generator](../howto/generator.md)). Weights are downloaded into the hub's cache; `HF_HUB_OFFLINE=1` prevents the download, and
`--revision` pins a commit. [Which source for my data](../howto/source.md) and [what they cost](../howto/cost.md).
"""


def catalogue() -> str:
    """The sources and targets that have a name."""
    sources = [
        (
            f"`{row.kit.name}`", row.kit.family, f"{row.kit.resolution} x {row.kit.resolution} x {row.kit.channels}", row.classes,
            row.kit.licence,
            "yes" if row.kit.commercial else "no", row.kit.description,
        )
        for row in source_rows()
    ]  # fmt: skip
    targets = [
        (
            f"`{t.name}`",
            f"[{t.title}]({t.page})",
            t.classes,
            f"{t.train:,}",
            f"{t.test:,}",
            t.split,
            t.licence,
        )
        for t in NAMED.values()
    ]
    heads = (
        ("name", "family", "pixels", "classes", "licence", "commercial use", "what it is"),
        (
            "name",
            "what it is",
            "classes",
            "training images",
            "test images",
            "split",
            "licence, in its makers' words",
        ),
    )
    return (
        f"# Sources and targets\n\n## Sources\n\n{SOURCES}\n{table(heads[0], sources)}\n"
        f"## Targets\n\nUse one with `--target NAME`. `ppgen targets` shows which ones are on this machine.\n\n{table(heads[1], targets)}"
    )
