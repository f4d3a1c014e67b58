"""Files in the working directory called as modules of Python or of a library replace none of them, in no child process."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

NAMES = ("struct", "types", "random", "torch", "numpy", "statistics", "code", "queue", "logging", "utils")
SHARDS = Path(__file__).parents[1] / "golden/version-2/synth"
NET = """from torch import nn
def build(num_classes, in_channels):
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * in_channels, num_classes))
"""
SYNTH = "ppgen synth --source letters --classes 2 --per-class 4 --samples-per-shard 4 --batch-size 4 --device cpu --out out"
TRAIN = f"pptrain run --shards {SHARDS} --arch mynet:build --steps 2 --batch-size 4 --device cpu --out out"


@pytest.mark.parametrize(
    "command",
    [
        f"{SYNTH} --workers 2",
        f"{SYNTH} --engine ray --workers 1",
        f"{TRAIN} --ray 1",
    ],
)
def test_no_module_is_replaced(command: str, tmp_path: Path) -> None:
    if "ray" in command and importlib.util.find_spec("ray") is None:
        pytest.skip("needs Ray")
    program, *words = command.split()
    script, here = tmp_path / program, tmp_path / "here"
    script.write_text(f"from {program}.cli import main\nif __name__ == '__main__':\n    main()\n")
    here.mkdir()
    for name in NAMES:
        (here / f"{name}.py").write_text(f"raise RuntimeError('the wrong {name}')\n")
    (here / "mynet.py").write_text(NET)
    done = subprocess.run([sys.executable, script, *words], cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "the wrong" not in done.stderr
