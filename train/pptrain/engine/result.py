"""What a run came to: result.json, written last, which makes a run directory a finished one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppcore.errors import UserError
from ppcore.storage import Store, convert, read_json
from pptrain.config import CONFIG_FILE, TrainConfig, differences, load_config

MODEL_FOLDER = "model"
_FILE = "result.json"


@dataclass(frozen=True)
class _Figures:
    """What every result.json has; the rest of it is for people."""

    accuracy: float | None
    val_accuracy: float | None
    steps: int
    seconds: float


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        out: run directory; `model` below it is the classifier.
        accuracy: on the test images, None for pre-training on shards.
        val_accuracy: best on the validation images, None without them.
        steps, seconds: of training.
        details: all of result.json.
        fresh: whether this call trained, and did not find the run finished.
    """

    out: Path
    accuracy: float | None
    val_accuracy: float | None
    steps: int
    seconds: float
    details: dict[str, Any]
    fresh: bool = True

    @property
    def model(self) -> Path:
        return self.out / MODEL_FOLDER


def make_result(run: Path, details: dict[str, Any], *, fresh: bool = True) -> Result:
    """The result that `details`, the content of result.json, describe. Raises ValueError where they do not."""
    return Result(out=run, details=details, fresh=fresh, **vars(convert(_Figures, details)))


def write_result(result: Result) -> None:
    """Make the run a finished one."""
    text = json.dumps(result.details, indent=1) + "\n"
    Store(result.out).write_atomic(_FILE, text.encode())


def has_result(run: Path) -> bool:
    return (run / _FILE).is_file()


def read_result(run: Path) -> Result:
    """The result of a finished run directory.

    Raises:
        UserError: result.json is damaged.
    """
    try:
        return make_result(run, read_json(run / _FILE, dict[str, Any]), fresh=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{run / _FILE} is damaged ({error}); delete it, and the run starts again from its last resume point"
        ) from error


def find_result(run: Path, config: TrainConfig) -> Result | None:
    """The result of a finished run of the same configuration; None when there is something left to do.

    Raises:
        UserError: the directory belongs to another configuration or to something else.
    """
    if not run.exists() or not any(run.iterdir()):
        return None
    if not (run / CONFIG_FILE).is_file():
        raise UserError(f"{run} is not empty and no run of pptrain; choose another --out")
    changed = differences(load_config(str(run / CONFIG_FILE)), config)
    if changed:
        raise UserError(
            f"{run} belongs to a run with other settings ({'; '.join(changed[:5])}); choose another --out, repeat them, or "
            f"continue it as it was with --config {run / CONFIG_FILE}"
        )
    return read_result(run) if has_result(run) else None
