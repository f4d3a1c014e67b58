"""Makes the helpers beside the tests importable."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if (HERE := str(Path(__file__).parent)) not in sys.path:
    sys.path.insert(0, HERE)

from slurm import STUBS, write_program  # a helper beside the tests


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    """A folder of programs to stand before the real ones."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, body in STUBS.items():
        write_program(folder / name, body)
    return folder
