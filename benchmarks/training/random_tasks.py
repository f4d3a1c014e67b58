"""Training tasks on random images held in memory, so that neither disk nor decoding is measured; for benchmarks of the step."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pptrain.config import load_config
from pptrain.data import ResidentFeed
from pptrain.engine.choice import Numerics
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.task import Task, open_task

CLASSES = 10
METHODS: dict[str, dict[str, Any]] = {
    "PP": {"method.name": "supervised"},
    "P-SSL": {"method.name": "uda", "method.options": {"mu": 2.0}},
}


def write_target(folder: Path, side: int) -> None:
    """An image folder that gives the task its classes and its size."""
    rng = np.random.default_rng(0)
    for label in range(CLASSES):
        (folder / f"class{label}").mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"class{label}" / f"{number}.png")


def taken(task: Task) -> str:
    """What a settled task computes with."""
    loop = task.config.loop
    assert loop.amp != "auto"
    return str(Numerics(loop.amp, bool(loop.channels_last), bool(loop.compile), bool(loop.graphs)))


def random_task(
    arch: str,
    side: int,
    batch: int,
    images: int,
    group: ProcessGroup,
    *,
    kind: str = "PP",
    settings: dict[str, Any] | None = None,
) -> Task:
    """A task of `kind` (PP or P-SSL, two unlabelled images a labelled one) on `images` random images, which is never at its end."""
    with tempfile.TemporaryDirectory() as folder:
        write_target(Path(folder, "target"), side)
        target = str(Path(folder, "target"))
        chosen = {
            "data.target": target,
            "data.unlabeled": [f"target:{target}"] if kind == "P-SSL" else [],
            "data.resolution": side,
            "data.val_fraction": 0.0,
            "model.arch": arch,
            "optim.batch_size": batch,
            "optim.steps": 10**6,
            "loop.device": str(group.device),
            "out": str(Path(folder, "run")),
            **METHODS[kind],
            **(settings or {}),
        }
        task = open_task(load_config(overrides=chosen), group)
    # The views cut the network's size out of a somewhat larger stored image.
    stored = task.spec.resize or task.spec.resolution
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, stored, stored), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, CLASSES, (images,), generator=generator)
    names = [str(i) for i in range(images)]

    def random(share: Any, name: str) -> ResidentFeed:
        return ResidentFeed(pixels, labels, names, share, seed=0, name=name)

    unlabeled = None if task.unlabeled is None else random(task.unlabeled.share, "unlabeled")
    return replace(task, labeled=random(task.labeled.share, "labeled"), unlabeled=unlabeled)
