"""The trainer's step on a GPU: resident images, mixed precision, no wait for the device within a step."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_benchmark_s_step_runs_and_learns_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("train_gpu", BENCHMARKS / "gpu" / "train_gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    found = module.measure("small", side=32, batch=64, images=256, steps=4, device="cuda", compiled=False)
    assert found.images_per_s > 0
    assert found.peak_gb > 0
