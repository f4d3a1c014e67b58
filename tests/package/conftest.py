"""A wheel and a source archive of the tree as it stands, and programs that run from the wheel alone."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

if (HERE := str(Path(__file__).parent)) not in sys.path:
    sys.path.insert(0, HERE)

from wheels import Program, build, copy_tree  # a helper beside the tests


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Name -> bytes: the wheel and the source archive."""
    return build(copy_tree(tmp_path_factory.mktemp("tree")), tmp_path_factory.mktemp("archives"))


@pytest.fixture(scope="session")
def unpacked(archives: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as an installer lays it out."""
    folder = tmp_path_factory.mktemp("installed")
    (folder / "wheel.zip").write_bytes(next(data for name, data in archives.items() if name.endswith(".whl")))
    with zipfile.ZipFile(folder / "wheel.zip") as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def program(unpacked: Path, tmp_path: Path) -> Program:
    """Runs a command of the wheel in an empty directory, with `extra` in front of the path."""

    def run(
        command: str, *extra: Path, status: int = 0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        name, *arguments = command.split()
        script = tmp_path / name  # as an installer writes it
        script.write_text(f"from {name}.cli import main\nif __name__ == '__main__':\n    main()\n")
        paths = os.pathsep.join(str(path) for path in (*extra, unpacked))
        (tmp_path / "empty").mkdir(exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-P", str(script), *arguments],
            cwd=tmp_path / "empty",
            env={**os.environ, "PYTHONPATH": paths, **environment},
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return run
