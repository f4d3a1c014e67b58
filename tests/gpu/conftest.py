"""Tests that need a CUDA device; elsewhere each is skipped and says why."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "generate"))  # the tiny models and the rig of runs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = "no CUDA device is there" if torch.version.cuda else "this build of PyTorch has no CUDA"
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def cuda() -> torch.device:
    return torch.device("cuda")
