"""`ppflow new`: look at a folder, write a recipe for it."""

from __future__ import annotations

from pathlib import Path

from ppcore.errors import UserError
from ppcore.storage import Store
from ppcore.targets import load_target
from ppflow.recipe import new_recipe

_LOOKED_AT = 20  # images, for their colours


def write_new(target: str, arch: str, source: str, out: Path) -> None:
    """Write a recipe for a target and say how to go on.

    Raises:
        UserError: no such target, or a file that is there already.
    """
    if out.exists():
        raise UserError(f"{out} is there already; choose another --out or remove it")
    found = load_target(target)
    images = range(min(_LOOKED_AT, len(found.train)))
    channels = max(found.train.image(position).shape[2] for position in images)
    parameters = {"target": target, "arch": arch, "source": source, "channels": channels}
    size = f"{len(found.classes)} classes, {len(found.train)} training and {len(found.test)} test images"
    remarks = [
        f"{target}: {size}; what each setting means: ppflow show {out}, and `pptrain run --help`.",
        "What else a recipe may say, for editors: ppflow schema > recipe.schema.json",
    ]
    Store(out.parent).write_atomic(out.name, new_recipe(parameters, remarks).encode())
    print(f"{out}: a recipe for {target} ({size})")
    print(f"next: ppflow run {out} --dry-run, then ppflow run {out}")
