"""Directories that the tests of a module share, and a copy to spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from rig import synth


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """75 pictures in 4 shards, the last one short."""
    out = tmp_path_factory.mktemp("sound") / "out"
    assert synth(out) == 0
    return out


@pytest.fixture
def copy(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "copy"))
