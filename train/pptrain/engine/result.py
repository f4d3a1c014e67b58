"""The result of a run: result.json. It is written last, so a run directory with a result.json is a finished run."""

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
    """The fields of result.json that the program reads."""

    accuracy: float | None
    val_accuracy: float | None
    steps: int
    seconds: float


@dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes:
        out: run directory; its subdirectory `model` is the classifier.
        accuracy: on the test images; None for pre-training on shards.
        val_accuracy: the best on the validation images; None without any.
        steps, seconds: length of the training.
        details: the content of result.json.
        fresh: True if this call trained, False if the run was finished before.
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
    """The result in `details`, the content of result.json. Raises ValueError if a field is missing or has the wrong type."""
    return Result(out=run, details=details, fresh=fresh, **vars(convert(_Figures, details)))


def write_result(result: Result) -> None:
    """Write result.json, which marks the run as finished."""
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
            f"{run / _FILE} is damaged ({error}); delete it, and the run resumes from its last checkpoint"
        ) from error


def find_result(run: Path, config: TrainConfig) -> Result | None:
    """The result of `run` if it is finished; None if it is new or was interrupted.

    Raises:
        UserError: the directory belongs to a run with other settings, or something else.
    """
    if not run.exists() or not any(run.iterdir()):
        return None
    if not (run / CONFIG_FILE).is_file():
        raise UserError(f"{run} is not empty and does not hold a run of pptrain; choose another --out")
    changed = differences(load_config(str(run / CONFIG_FILE)), config)
    if changed:
        raise UserError(
            f"{run} belongs to a run with other settings ({'; '.join(changed[:5])}); choose another --out, give the old settings, or "
            f"resume that run with --config {run / CONFIG_FILE}"
        )
    return read_result(run) if has_result(run) else None
