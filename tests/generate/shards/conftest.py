"""What the tests of a module share."""

from __future__ import annotations

from pathlib import Path

import pytest
from rig import make_classifier, make_target, synth


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed synth directory."""
    out = tmp_path_factory.mktemp("made") / "out"
    assert synth(out) == 0
    return out


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A target folder and a source classifier."""
    base = tmp_path_factory.mktemp("workshop")
    return make_target(base / "target"), make_classifier(base / "classifier")
