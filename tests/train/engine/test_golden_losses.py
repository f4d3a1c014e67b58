"""Five steps of runs of many kinds come to the recorded losses and weights; run as a program it records them anew."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
RECORD = HERE / "golden_losses.json"

_spec = importlib.util.spec_from_file_location("golden_record", HERE.parents[1] / "golden" / "record.py")
assert _spec is not None
assert _spec.loader is not None
golden = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(golden)


def losses(root: Path) -> dict[str, Any]:
    """What the runs come to, with the instruction set and the threads of the record."""
    paths = os.pathsep.join([str(HERE.parent), *sys.path])
    done = subprocess.run(
        [sys.executable, str(HERE.parent / "goldenruns.py"), str(root)],
        env={**os.environ, **golden.ENVIRONMENT, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_losses_and_weights_are_as_recorded(tmp_path: Path) -> None:
    """The losses on every processor within a tolerance; on the processor of the record bit for bit, and the weights too."""
    record = json.loads(RECORD.read_text())
    found = losses(tmp_path)
    assert found.keys() == record["runs"].keys()
    for name, recorded in record["runs"].items():
        assert found[name]["loss"] == pytest.approx(recorded["loss"], abs=1e-3), name
    if golden.processor(model=True) == record["processor"]:
        assert found == record["runs"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        runs = losses(Path(name))
    RECORD.write_text(json.dumps({"processor": golden.processor(model=True), "runs": runs}, indent=1) + "\n")
