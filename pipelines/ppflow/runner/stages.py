"""What a job of each kind runs: the functions behind `ppgen synth`, `ppgen pseudo`, `pptrain run` and `pptrain export`."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from ppcore.errors import UserError
from ppcore.storage import Store
from ppcore.trust import Trust
from ppflow.jobs import RESULT, JobFailure, StageJob, StageResult, stored_result, write_record
from ppgen.cli import generate, read_options
from ppgen.sources import source_kit
from pptrain.config import CONFIG_FILE, TrainConfig, load_config
from pptrain.engine import read_result, train
from pptrain.evaluation import export_model

_CHOSEN = "chosen.json"


def check_job(job: StageJob) -> None:
    """Refuse settings that are wrong in themselves, without opening a source or a target. Raises UserError."""
    try:
        if job.kind == "train":
            training_config(job)
        elif job.kind in ("synth", "pseudo"):
            read_options(job.kind, _generation_options(job))
    except UserError as error:
        raise UserError(f"{job.label}: {error}") from error


def run_job(job: StageJob) -> StageResult | JobFailure:
    """Run a job in this process, or resume it. Its output and a traceback go to `<folder>.log`; it raises nothing."""
    torch.set_num_threads(max(1, int(job.resources.cpus)))
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    stored = stored_result(job)
    if stored is not None:
        return stored
    start = time.monotonic()
    with _output_to(job.folder.with_name(job.folder.name + ".log")):
        try:
            result = run_stage(job)
        except UserError as error:
            return JobFailure(str(error), refused=True)
        except Exception as error:
            traceback.print_exc()
            return JobFailure(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    seconds = max(time.monotonic() - start, result.seconds or 0.0)  # a stage may count earlier runs, too
    write_record(job, seconds, platform.node())
    return replace(result, seconds=seconds)


def run_stage(job: StageJob) -> StageResult:
    """Do the work of a job, or what is left of it.

    Raises:
        UserError: a setting is wrong.
        RuntimeError: shards failed.
    """
    if job.kind == "train":
        _train(training_config(job), code=bool(job.settings.get("trust_code")))
    elif job.kind == "refit":
        _refit(job)
    elif job.kind == "export":
        _export(job)
    else:
        status = generate(read_options(job.kind, _generation_options(job)))
        if status:
            raise RuntimeError(f"{job.label} failed with status {status}; see {job.folder}.log")
    result = stored_result(job)
    assert result is not None, job.folder
    return result


def training_config(job: StageJob) -> TrainConfig:
    """The configuration of a training stage. Its setting `trust_code` is not part of it. Raises UserError for a wrong setting."""
    settings = {name: value for name, value in job.settings.items() if name != "trust_code"}
    return load_config(overrides={**settings, "out": str(job.folder)})


def _generation_options(job: StageJob) -> dict[str, Any]:
    options = {"workers": 1, **job.settings, "out": str(job.folder)}
    if "classes" in options:
        options["classes"] = str(options["classes"])  # YAML reads 1000 as a number
    if job.needs and source_kit(str(options.get("source", ""))) is None:
        # The classifier is a stage of this recipe, whose network the user named. A kit may name code of somebody else.
        options["trust_code"] = True
    return options


def _train(config: TrainConfig, *, code: bool = False) -> None:
    train(config, trust=Trust(code, typed=(config.model.arch,)))


def _refit(job: StageJob) -> None:
    """Train the candidate with the highest validation accuracy again, on all labels; the first one if several are equal."""
    settings = dict(job.settings)
    candidates = {Path(folder): read_result(Path(folder)) for folder in settings.pop("candidates")}
    best = max(candidates, key=lambda folder: candidates[folder].val_accuracy or 0.0)
    overrides = {"data.val_fraction": 0.0, **settings, "out": str(job.folder)}
    _train(load_config(str(best / CONFIG_FILE), overrides))
    accuracies = {folder.name: result.val_accuracy for folder, result in candidates.items()}
    choice = {"chosen": best.name, "val_accuracy": accuracies}
    Store(job.folder).write_atomic(_CHOSEN, (json.dumps(choice, indent=1) + "\n").encode())


def _export(job: StageJob) -> None:
    settings = dict(job.settings)
    model, file = str(settings.pop("model")), job.folder / "model.onnx"
    job.folder.mkdir(parents=True, exist_ok=True)
    # A model that a stage of this recipe trained may name code. A model from outside the recipe may not.
    trained_here = bool(job.needs)
    exported = export_model(model, str(file), trust_code=trained_here, **settings)
    test = exported.evaluations.get("onnx")
    result = StageResult(
        accuracy=None if test is None else test.accuracy,
        images=None if test is None else test.images,
        file=str(file),
    )
    Store(job.folder).write_atomic(RESULT, (json.dumps(asdict(result), indent=1) + "\n").encode())


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send file descriptors 1 and 2 to a file, so that subprocesses and C libraries write there, too."""
    saved = [os.dup(1), os.dup(2)]
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, stream)
            os.close(copy)
