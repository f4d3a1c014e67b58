"""Training runs on random images in memory, for benchmarks of the step: neither disk nor decoding is measured."""

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
from pptrain.engine.prepare import PreparedRun, prepare_run
from pptrain.engine.process_group import ProcessGroup

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


def precision(run: PreparedRun) -> str:
    """Precision and layout of a run, for tables."""
    loop = run.config.loop
    words = [
        {"no": "float32"}.get(loop.amp, loop.amp),
        "channels last" if loop.channels_last else "contiguous",
    ]
    return ", ".join([*words, *["compiled"] * loop.compile, *["CUDA graphs"] * bool(loop.graphs)])


def random_run(
    arch: str,
    side: int,
    batch: int,
    images: int,
    group: ProcessGroup,
    *,
    kind: str = "PP",
    settings: dict[str, Any] | None = None,
) -> PreparedRun:
    """A run of `kind` (PP, or P-SSL with two unlabelled images per labelled one) on `images` random images; it never ends."""
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
        run = prepare_run(load_config(overrides=chosen), group)
    # The views cut the network's size out of a somewhat larger stored image.
    stored = run.spec.resize or run.spec.resolution
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, stored, stored), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, CLASSES, (images,), generator=generator)
    names = [str(i) for i in range(images)]

    def random(share: Any, name: str) -> ResidentFeed:
        return ResidentFeed(pixels, labels, names, share, seed=0, name=name)

    unlabeled = None if run.unlabeled is None else random(run.unlabeled.share, "unlabeled")
    return replace(run, labeled=random(run.labeled.share, "labeled"), unlabeled=unlabeled)
