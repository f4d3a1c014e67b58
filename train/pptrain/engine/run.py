"""One training stage from configuration to result: checked before anything is written, resumable, done once."""

from __future__ import annotations

import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ppcore.classifiers import save_classifier
from ppcore.errors import UserError
from ppcore.memory import keep_freed_memory
from ppcore.trust import NOBODY, Trust
from pptrain.config import TrainConfig, save_config
from pptrain.engine.choice import settle, with_stored
from pptrain.engine.loop import fit
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.result import MODEL_FOLDER, Result, find_result, make_result, write_result
from pptrain.engine.state import TrainState, checkpoint_path, drop_checkpoint, load_checkpoint, make_state
from pptrain.engine.task import Task, open_task
from pptrain.evaluation import MetricsWriter, check_trackers, evaluate, write_test_predictions
from pptrain.models import SMALL_SIDE, synced


def train(config: TrainConfig, *, quiet: bool = False, trust: Trust = NOBODY) -> Result:
    """Run one stage, or resume it, or report it when it is done already.

    Args:
        config: see :class:`TrainConfig`; `out` must be set.
        quiet: print nothing.
        trust: which code the initial model and the teacher may name, beside the architecture that `config` asks for.

    Raises:
        UserError: anything the user can mend; nothing has been written then, except when the loss stops being a number.
    """
    if not config.out:
        raise UserError("no run directory; give --out")
    group = ProcessGroup(config.loop.device)
    try:
        return _train(config, group, trust, quiet=quiet)
    finally:
        group.close()


def _train(config: TrainConfig, group: ProcessGroup, trust: Trust, *, quiet: bool) -> Result:
    if config.loop.threads:
        torch.set_num_threads(config.loop.threads)
    task = open_task(with_stored(config), group, trust)
    if group.device.type == "cpu" and not config.loop.threads and task.spec.resolution <= SMALL_SIDE:
        torch.set_num_threads(1)  # small tensors: a second thread costs more than it brings
    run = Path(config.out)
    check_trackers(config.loop.trackers)
    if group.device.type == "cpu":
        keep_freed_memory()
    task = settle(task, group)
    done = find_result(run, task.config)
    if done is not None:
        return done
    _start_together(task, group)
    state = make_state(task, group.device)
    resumed = load_checkpoint(run, state)
    group.barrier()  # all have read the directory before the first writes to it
    metrics = None
    if group.is_main:
        metrics = _start_files(task, state, run)
        if not quiet:
            _announce(task, f"resumed at step {state.step}" if resumed else task.started, group.device)
    try:
        fit(task, state, group, run, metrics=metrics, quiet=quiet)
    except KeyboardInterrupt:
        _say_interrupted(state, run)
        raise
    if metrics is not None:
        metrics.close()
    result = _finish(task, state, group, run)
    group.barrier()  # nobody leaves before the files are written
    return result


def _start_together(task: Task, group: ProcessGroup) -> None:
    """All processes train the first one's network, and normalise together where that was asked for."""
    if group.world_size == 1:
        return
    if task.config.model.sync_batch_norm:
        synced(task.net)
    start = nn.ModuleList([task.net, *([task.source.head] if task.source else [])]).to(group.device)
    group.share(start.state_dict().values())


def _start_files(task: Task, state: TrainState, run: Path) -> MetricsWriter:
    """The run directory with its configuration and metrics."""
    try:
        run.mkdir(parents=True, exist_ok=True)
        save_config(task.config, run)
    except OSError as error:
        raise UserError(
            f"cannot write the run directory {run} ({error.strerror}); choose another --out"
        ) from error
    loop = task.config.loop
    return MetricsWriter(
        run,
        state.step,
        tensorboard=loop.tensorboard,
        trackers=loop.trackers,
        settings=asdict(task.config),
    )


def _announce(task: Task, started: str, device: torch.device) -> None:
    config, extra = task.config, task.unlabeled
    parameters = sum(p.numel() for p in task.net.parameters())
    sets = (
        f"{task.labeled.samples} labelled" + (f" + {extra.samples} unlabelled" if extra else "") + " images"
    )
    print(
        f"{config.method.name}: {config.model.arch} ({parameters / 1e6:.2f} M parameters, {started}), {sets}, "
        f"{task.spec.num_classes} classes, {task.spec.resolution} pixels, {config.optim.steps} steps of "
        f"{config.optim.batch_size} on {device} -> {config.out}"
    )
    for note in task.notes:
        print(note)


def _say_interrupted(state: TrainState, run: Path) -> None:
    kept = "its last resume point"
    if not checkpoint_path(run).exists():
        kept = "the beginning: no resume point is due yet"
    print(f"interrupted at step {state.step}; the same command continues from {kept}", file=sys.stderr)


def _finish(task: Task, state: TrainState, group: ProcessGroup, run: Path) -> Result:
    """Save the chosen weights and look at the test images, for the first and only time."""
    group.average(state.ema.model.buffers())
    details: dict[str, Any] = {
        "accuracy": None,
        "val_accuracy": state.best["rank"][0] if state.best else None,
        "steps": state.step,
        "chosen_step": state.take_best(),
        "seconds": round(state.seconds, 3),
        "method": task.config.method.name,
        "arch": task.config.model.arch,
        "classes": task.spec.num_classes,
        "data": task.fingerprints,
        "settings": asdict(task.config),
        "torch": torch.__version__,
        "device": _device_name(group.device),
    }
    if not group.is_main:
        return make_result(run, details)
    classifier = state.classifier(task.spec)
    save_classifier(run / MODEL_FOLDER, classifier.net, task.spec)
    if task.test is not None:
        test = task.test()
        report = evaluate(classifier, test)
        write_test_predictions(run, test, report)
        details |= {"accuracy": report.accuracy, "test": report.as_dict()}
    result = make_result(run, details)
    write_result(result)
    drop_checkpoint(run)
    return result


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()
