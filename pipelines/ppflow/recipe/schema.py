"""The JSON schema of recipes, made from the types that read them."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter

from ppflow.recipe.document import Document

_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def recipe_schema() -> str:
    """JSON text. In an editor: `# yaml-language-server: $schema=FILE` as the first line of a recipe."""
    content: dict[str, Any] = TypeAdapter(Document).json_schema()
    return json.dumps({"$schema": _DRAFT, **content, "title": "ppflow recipe"}, indent=1)
