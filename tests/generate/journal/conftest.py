"""What the tests of the journal share."""

from __future__ import annotations

from pathlib import Path

import pytest
from rig import synth


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that no log was kept of."""
    out = tmp_path_factory.mktemp("made") / "out"
    assert synth(out) == 0
    return out
