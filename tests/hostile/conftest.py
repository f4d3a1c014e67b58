"""Makes helpers importable; a trap is code that must not run, `opened` what a command opened."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import pytest

HERE = Path(__file__).parent
for folder in (HERE, HERE.parent / "generate"):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # behind other folders, whose tests import their own conftest

from traps import Trap, Watch  # noqa: E402

WATCH = Watch()
sys.addaudithook(WATCH)


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trap:
    """A module that can be imported and leaves a mark when it is."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return Trap(folder, f"trap_{uuid.uuid4().hex[:8]}")


@pytest.fixture
def watch() -> Watch:
    return WATCH
