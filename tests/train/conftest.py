"""Fixtures of the trainer's tests; also makes the helpers beside the tests importable."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest
import torch

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)

from toyshards import ShardWriter, write, write_target  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def write_shards(tmp_path: Path) -> ShardWriter:
    """write(name, counts, ...) -> directory; see toyshards.write."""
    return lambda name, counts, **options: partial(write, tmp_path / name)(counts, **options)


@pytest.fixture
def target_folder(tmp_path: Path) -> Path:
    """See toyshards.write_target."""
    return write_target(tmp_path / "target")


@pytest.fixture(scope="session")
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
