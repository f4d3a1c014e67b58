"""What a stage of each kind does, by the functions behind `ppgen synth`, `ppgen pseudo`, `pptrain run` and `pptrain export`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ppcore.errors import UserError
from ppcore.storage import Store
from ppcore.trust import Trust
from ppflow.jobs import RESULT, Job, StageResult, cached_result
from ppgen.cli import generate, read_options
from pptrain.config import CONFIG_FILE, TrainConfig, load_config
from pptrain.engine import read_result, train
from pptrain.evaluation import export_model

CHOSEN = "chosen.json"


def check_job(job: Job) -> None:
    """Refuse settings that no run of the stage could have; opens nothing. Raises UserError."""
    try:
        if job.kind == "train":
            load_config(overrides=_train_settings(job))
        elif job.kind in ("synth", "pseudo"):
            read_options(job.kind, _generation_options(job))
    except UserError as error:
        raise UserError(f"{job.label}: {error}") from error


def run_stage(job: Job) -> StageResult:
    """Do the job, or the rest of it.

    Raises:
        UserError: the request makes no sense.
        RuntimeError: shards failed.
    """
    if job.kind == "train":
        _train(load_config(overrides=_train_settings(job)))
    elif job.kind == "refit":
        _refit(job)
    elif job.kind == "export":
        _export(job)
    else:
        status = generate(read_options(job.kind, _generation_options(job)))
        if status:
            raise RuntimeError(f"{job.label} failed with status {status}; see {job.folder}.log")
    done = cached_result(job)
    assert done is not None, job.folder
    return done


def _train_settings(job: Job) -> dict[str, Any]:
    return {**job.settings, "out": str(job.folder)}


def _generation_options(job: Job) -> dict[str, Any]:
    options = {"workers": 1, **job.settings, "out": str(job.folder)}
    if "classes" in options:
        options["classes"] = str(options["classes"])  # YAML reads 1000 as a number
    return options


def _train(config: TrainConfig) -> None:
    train(config, trust=Trust(typed=(config.model.arch,)))


def _refit(job: Job) -> None:
    """Train the candidate of the highest validation accuracy again, on all labels; the first of equals, or of all without validation."""
    settings = dict(job.settings)
    candidates = {Path(folder): read_result(Path(folder)) for folder in settings.pop("candidates")}
    best = max(candidates, key=lambda folder: candidates[folder].val_accuracy or 0.0)
    found = {folder.name: result.val_accuracy for folder, result in candidates.items()}
    overrides = {"data.val_fraction": 0.0, **settings, "out": str(job.folder)}
    _train(load_config(str(best / CONFIG_FILE), overrides))
    told = {"chosen": best.name, "val_accuracy": found}
    Store(job.folder).write_atomic(CHOSEN, (json.dumps(told, indent=1) + "\n").encode())


def _export(job: Job) -> None:
    settings = dict(job.settings)
    model, file = str(settings.pop("model")), job.folder / "model.onnx"
    job.folder.mkdir(parents=True, exist_ok=True)
    # What a stage of the recipe made may name code; what somebody else may have made may not.
    made_here = bool(job.needs)
    done = export_model(model, str(file), trust_code=made_here, **settings)
    test = done.evaluations.get("onnx")
    result = StageResult(
        accuracy=None if test is None else test.accuracy,
        images=None if test is None else test.images,
        file=str(file),
    )
    Store(job.folder).write_atomic(RESULT, (json.dumps(asdict(result), indent=1) + "\n").encode())
