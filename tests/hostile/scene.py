"""The place where a hostile directory is set up: a sound one, code that must not run, files that must not be read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hostile import forge_plan
from PIL import Image
from traps import Trap

from ppcore.classifiers import ClassifierSpec, build, save_classifier
from ppcore.kits import EMBEDDED


class Bomb:
    """Pickled, it touches a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.mark,)


@dataclass(frozen=True)
class Scene:
    """A place to set a way up in.

    Attributes:
        out: a sound directory of 16 pseudo samples, scored, to be made hostile.
        trap: code that must not run.
        secret: a folder outside that must not be read; it holds what a way needs there.
        mark: a file that must not appear.
    """

    out: Path
    trap: Trap
    secret: Path
    mark: Path

    def load(self, **changes: Any) -> None:
        """Other words in the plan's `load`, with a fingerprint that fits."""
        forge_plan(self.out, lambda plan: plan["load"].update(changes))

    def move_out(self, name: str) -> None:
        """A link where a file or folder was, which is outside now."""
        shutil.move(self.out / name, self.secret / Path(name).name)
        (self.out / name).symlink_to(self.secret / Path(name).name)

    def model(self, arch: str) -> Path:
        """A model of the source's 42 classes with this architecture."""
        source = json.loads((EMBEDDED / "letters/classifier/config.json").read_text())
        names = tuple(source["class_names"])
        save_classifier(
            self.secret / "model", build("small", len(names), 1), ClassifierSpec(arch, names, 1, 32)
        )
        return self.secret / "model"

    def kit(self, **changes: Any) -> Path:
        """The embedded kit with other words."""
        folder = self.secret / "kit"
        shutil.copytree(EMBEDDED / "letters", folder)
        content = json.loads((folder / "kit.json").read_text())
        (folder / "kit.json").write_text(json.dumps({**content, "revision": None, **changes}))
        return folder

    def pictures(self) -> Path:
        """An image folder that is nobody's business."""
        for number in range(4):
            path = self.secret / f"private/class{number % 2}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8), 40 * number, np.uint8)).save(path)
        return self.secret / "private"
