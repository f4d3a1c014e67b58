"""Fixtures of the trainer's tests; also makes the helpers beside the tests importable."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)

from toyshards import CLASSES, ShardWriter, picture, write  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def write_shards(tmp_path: Path) -> ShardWriter:
    """write(name, counts, ...) -> directory; see toyshards.write."""
    return lambda name, counts, **options: partial(write, tmp_path / name)(counts, **options)


@pytest.fixture
def target_folder(tmp_path: Path) -> Path:
    """An image folder of the same four classes: 12 training and 6 test images a class, 8 pixels, grey."""
    root = tmp_path / "target"
    for split, count in (("train", 12), ("test", 6)):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = picture(label + len(CLASSES) * (number + 100 * (split == "test")), 8, 1)
                noise = np.random.default_rng(number).integers(0, 16, pixels.shape).astype(np.uint8)
                Image.fromarray((pixels // 16 * 15 + noise)[:, :, 0]).save(folder / f"{number:03d}.png")
    return root


@pytest.fixture
def tiny() -> dict[str, object]:
    """Settings of a run that takes a second."""
    return {
        "data.resolution": 16,
        "optim.steps": 12,
        "optim.batch_size": 8,
        "loop.tensorboard": False,
        "loop.log_every": 4,
        "loop.ema": 0.9,
    }
