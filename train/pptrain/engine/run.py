"""One training stage from configuration to result: checked before anything is written, resumable, done once."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ppcore.classifiers import save_classifier
from ppcore.errors import UserError
from ppcore.memory import keep_freed_memory
from ppcore.storage import Store
from pptrain.config import CONFIG_FILE, TrainConfig, differences, load_config, save_config
from pptrain.engine.checkpoint import FOLDER, LAST, drop_checkpoint, load_checkpoint
from pptrain.engine.loop import Trainer
from pptrain.engine.ranks import Ranks
from pptrain.engine.task import Task, open_task
from pptrain.evaluation import Metrics, check_trackers, evaluate
from pptrain.models import SMALL_SIDE

RESULT_FILE, MODEL_FOLDER = "result.json", "model"


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


def train(config: TrainConfig, *, quiet: bool = False) -> Result:
    """Run one stage, or resume it, or report it when it is done already.

    Args:
        config: see :class:`TrainConfig`; `out` must be set.
        quiet: print nothing.

    Raises:
        UserError: anything the user can mend; nothing has been written then, except when the loss stops being a number.
    """
    if not config.out:
        raise UserError("no run directory; give --out")
    ranks = Ranks(config.loop.device)
    try:
        return _train(config, ranks, quiet=quiet)
    finally:
        ranks.close()


def _train(config: TrainConfig, ranks: Ranks, *, quiet: bool) -> Result:
    if config.loop.threads:
        torch.set_num_threads(config.loop.threads)
    task = open_task(config, ranks)
    if ranks.device.type == "cpu" and not config.loop.threads and task.spec.resolution <= SMALL_SIDE:
        torch.set_num_threads(1)  # small tensors: a second thread costs more than it brings
    run = Path(config.out)
    check_trackers(config.loop.trackers)
    done = finished(run, task.config)
    if done is not None:
        return done
    if ranks.device.type == "cpu":
        keep_freed_memory()
    trainer = Trainer(task, ranks, run)
    state = load_checkpoint(run)
    if state is not None:
        trainer.restore(state)
        task.started = f"resumed at step {trainer.step}"
    ranks.wait()  # all have read the directory before the first writes to it
    metrics = None
    if ranks.first:
        _prepare(run, task.config)
        loop = task.config.loop
        metrics = Metrics(
            run,
            trainer.step,
            tensorboard=loop.tensorboard,
            trackers=loop.trackers,
            settings=asdict(task.config),
        )
        if not quiet:
            _announce(task, trainer)
    try:
        trainer.fit(metrics, quiet=quiet)
    except KeyboardInterrupt:
        kept = (
            "its last resume point"
            if (run / FOLDER / LAST).exists()
            else "the beginning: no resume point is due yet"
        )
        print(f"interrupted at step {trainer.step}; the same command continues from {kept}", file=sys.stderr)
        raise
    result = _finish(task, trainer, run, metrics)
    ranks.wait()  # nobody leaves before the files are written
    return result


def finished(run: Path, config: TrainConfig) -> Result | None:
    """The result of a finished run of the same configuration.

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
            f"{run} belongs to a run with other settings ({'; '.join(changed[:5])}); choose another --out or repeat them"
        )
    return read_result(run) if (run / RESULT_FILE).is_file() else None


def read_result(run: Path) -> Result:
    """The result of a finished run directory."""
    return _result(run, json.loads((run / RESULT_FILE).read_text()), fresh=False)


def _prepare(run: Path, config: TrainConfig) -> None:
    try:
        run.mkdir(parents=True, exist_ok=True)
        save_config(config, run)
    except OSError as error:
        raise UserError(
            f"cannot write the run directory {run} ({error.strerror}); choose another --out"
        ) from error


def _announce(task: Task, trainer: Trainer) -> None:
    config, extra = task.config, task.unlabeled
    parameters = sum(p.numel() for p in task.net.parameters())
    sets = (
        f"{task.labeled.samples} labelled" + (f" + {extra.samples} unlabelled" if extra else "") + " images"
    )
    print(
        f"{config.method.name}: {config.model.arch} ({parameters / 1e6:.2f} M parameters, {task.started}), {sets}, "
        f"{task.spec.num_classes} classes, {task.spec.resolution} pixels, {config.optim.steps} steps of "
        f"{config.optim.batch_size} on {trainer.device} -> {config.out}"
    )
    for note in task.notes:
        print(note)


def _finish(task: Task, trainer: Trainer, run: Path, metrics: Metrics | None) -> Result:
    """Save the chosen weights and look at the test images, for the first and only time."""
    step = trainer.take_best()
    classifier = trainer.classifier()
    details: dict[str, Any] = {
        "accuracy": None,
        "val_accuracy": trainer.best["rank"][0] if trainer.best else None,
        "steps": trainer.step,
        "chosen_step": step,
        "seconds": round(trainer.seconds, 3),
        "method": task.config.method.name,
        "arch": task.config.model.arch,
        "classes": task.spec.num_classes,
        "data": task.fingerprints,
        "settings": asdict(task.config),
        "torch": torch.__version__,
        "device": _device_name(trainer.device),
    }
    if metrics is None:
        return _result(run, details)
    save_classifier(run / MODEL_FOLDER, classifier.net, task.spec)
    if task.test is not None:
        report = evaluate(classifier, task.test())
        details["accuracy"] = report.accuracy
        details["test"] = report.as_dict()
    metrics.close()
    Store(run).write_atomic(RESULT_FILE, (json.dumps(details, indent=1) + "\n").encode())
    drop_checkpoint(run)
    return _result(run, details)


def _result(run: Path, details: dict[str, Any], *, fresh: bool = True) -> Result:
    return Result(
        out=run,
        accuracy=details["accuracy"],
        val_accuracy=details["val_accuracy"],
        steps=details["steps"],
        seconds=details["seconds"],
        details=details,
        fresh=fresh,
    )


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()
