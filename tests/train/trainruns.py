"""Whole runs for the trainer's tests: started, killed, compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ppcore.errors import UserError
from pptrain.config import load_config
from pptrain.engine import Result, train
from pptrain.engine.step import StepRunner

Settings = dict[str, Any]


def run(settings: Settings, **more: object) -> Result:
    return train(load_config(overrides={**settings, **more}), quiet=True)


def bad(config: Settings, message: str, out: Path) -> None:
    """The run is refused in one sentence, and nothing was written."""
    with pytest.raises(UserError, match=message) as caught:
        run(config, out=str(out))
    assert "\n" not in str(caught.value)
    assert not out.exists()


def same_weights(a: Path, b: Path) -> bool:
    first, second = (load_file(folder / "model" / "model.safetensors") for folder in (a, b))
    return all(torch.equal(first[name], second[name]) for name in first)


class Killed(BaseException):
    pass


def run_until_killed(settings: Settings, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run and die after `at` steps."""
    real = StepRunner.run

    def step(self: StepRunner, *args: Any) -> float:
        if self.state.step == at:
            raise Killed
        return real(self, *args)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(StepRunner, "run", step)
        run(settings)
