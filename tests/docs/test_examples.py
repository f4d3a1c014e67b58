"""Every example in docs/examples runs, on shard directories of 16 images."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs/examples"
SYNTH, PSEUDO = (str(ROOT / "tests/golden/version-2" / kind) for kind in ("synth", "pseudo"))
# Example -> (package that may be missing, directory, what it prints or writes)
RUNS = {
    "plain_pytorch": ("torchvision", SYNTH, "epoch 1: loss", "pretrained.pt"),
    "lightning_module": ("lightning", PSEUDO, "", "imitation.ckpt"),
    "timm_wds": ("timm", SYNTH, "(8, 62) [", ""),
    "hugging_face": ("datasets", SYNTH, "(32, 32)", ""),
}


def _run(name: str, folder: Path, *words: str) -> str:
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *words]
    environment = {**os.environ, "HF_HOME": str(folder / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_examples_run(name: str, tmp_path: Path) -> None:
    package, directory, printed, written = RUNS[name]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    assert printed in _run(name, tmp_path, directory)
    assert not written or (tmp_path / written).stat().st_size > 0


@pytest.mark.slow
def test_the_split_for_timms_script(tmp_path: Path) -> None:
    assert _run("timm_wds", tmp_path, SYNTH, "--split").strip() == "shards/{000000..000001}.tar|16"


def test_every_example_is_run_and_short() -> None:
    files = {path.stem: path for path in EXAMPLES.glob("*.py")}
    assert set(files) == set(RUNS)
    for path in files.values():
        lines = [line for line in path.read_text().splitlines() if line.strip()]
        assert len(lines) <= 30, path
