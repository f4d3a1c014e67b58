"""The JSON schema of recipes for editors, made from the types that read recipes."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter

from ppflow.recipe.recipe import Document, Resources
from pptrain.config import TrainConfig

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
    return {"type": "object", "properties": settings, "additionalProperties": False}


def _setting(field: dict[str, Any]) -> dict[str, Any]:
    """The type of a field, or a parameter in its place. A list may be given as one value, as everywhere in pptrain."""
    kinds: list[dict[str, Any]] = [field, *_OPEN]
    if field.get("type") == "array":
        kinds.append(field["items"])
    return {"anyOf": kinds}
