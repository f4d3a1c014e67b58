"""What a job of each kind does: the same functions that stand behind `ppgen synth`, `ppgen pseudo` and `pptrain run`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

import typer

from ppcore.errors import UserError
from ppcore.shards import INDEX, ShardSet
from ppflow.runner.graph import Node

RESULT = "result.json"


def finished(node: Node) -> dict[str, Any] | None:
    """What the job reported when it was done before; None when it was not."""
    if node.kind == "train":
        path = node.folder / RESULT
        return _summary(json.loads(path.read_text())) if path.is_file() else None
    return {"samples": ShardSet.open(str(node.folder)).samples} if (node.folder / INDEX).is_file() else None


def run(node: Node) -> dict[str, Any]:
    """Do the job, or the rest of it.

    Returns:
        {"samples"} of a generation job; {"steps"} and, with test images, {"accuracy"} (a share) of a training job.

    Raises:
        UserError: the request makes no sense.
        RuntimeError: shards failed.
    """
    if node.kind == "train":
        from pptrain.config import load_config
        from pptrain.engine import train

        return _summary(train(load_config(overrides={**node.settings, "out": str(node.folder)})).details)
    from ppgen.cli import commands as cli

    commands: dict[str, Callable[..., None]] = {"synth": cli.synth, "pseudo": cli.pseudo}
    command = commands[node.kind]
    known = set(inspect.signature(command).parameters)
    for name in node.settings:
        if name not in known:
            raise UserError(
                f"ppgen {node.kind} has no option {name!r}; expected some of {', '.join(sorted(known))}"
            )
    try:
        command(**{"workers": 1, **node.settings, "out": str(node.folder)})
    except typer.Exit as stop:
        raise RuntimeError(
            f"{node.label} failed with status {stop.exit_code}; see {node.folder}.log"
        ) from stop
    return {"samples": ShardSet.open(str(node.folder)).samples}


def _summary(details: dict[str, Any]) -> dict[str, Any]:
    """Of pptrain's result.json; pre-training has no accuracy."""
    return {name: details[name] for name in ("accuracy", "steps") if details[name] is not None}
