"""One training stage from configuration to result. Mistakes are reported before anything is written; an interrupted run resumes."""

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
from ppcore.platforms import keep_freed_memory
from ppcore.trust import NOBODY, Trust
from pptrain.config import TrainConfig, save_config
from pptrain.engine.loop import fit
from pptrain.engine.prepare import PreparedRun, prepare_run
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.prototypes import with_prototypes
from pptrain.engine.resolve import check_device
from pptrain.engine.result import MODEL_FOLDER, Result, find_result, make_result, write_result
from pptrain.engine.state import TrainState, checkpoint_path, drop_checkpoint, load_checkpoint, make_state
from pptrain.evaluation import MetricsWriter, check_trackers, evaluate, write_test_predictions
from pptrain.models import SMALL_SIDE


def train(config: TrainConfig, *, quiet: bool = False, trust: Trust = NOBODY) -> Result:
    """Train one stage, or resume it, or return its result if it is finished.

    Args:
        config: see :class:`TrainConfig`; `out` must be set.
        quiet: print nothing.
        trust: which code the initial model and the teacher may name, beside the architecture that `config` names.

    Raises:
        UserError: a mistake in the settings or the data. Nothing has been written then, unless the loss became NaN or infinite.
    """
    if not config.out:
        raise UserError("no run directory; give --out")
    group = ProcessGroup(config.loop.device)
    try:
        return _train(config, group, trust, quiet=quiet)
    finally:
        group.close()


def _train(config: TrainConfig, group: ProcessGroup, trust: Trust, *, quiet: bool) -> Result:
    check_device(config, group.device)
    check_trackers(config.loop.trackers)
    if config.loop.threads:
        torch.set_num_threads(config.loop.threads)
    prepared = prepare_run(config, group, trust)
    run = Path(config.out)
    done = find_result(run, prepared.config)
    if done is not None:
        return done
    if group.device.type == "cpu":
        keep_freed_memory()
        if not config.loop.threads and prepared.spec.resolution <= SMALL_SIDE:
            torch.set_num_threads(1)  # with images this small, a second thread costs more than it gains
    _share_start(prepared, group)
    prepared = with_prototypes(prepared, group, quiet=quiet or not group.is_main)
    state = make_state(prepared, group.device)
    resumed = load_checkpoint(run, state)
    group.barrier()  # the first process writes only after all have read the directory
    metrics = None
    if group.is_main:
        metrics = _start_files(prepared, state, run)
        if not quiet:
            _announce(
                prepared, f"resumed at step {state.step}" if resumed else prepared.started, group.device
            )
    try:
        fit(prepared, state, group, run, metrics=metrics, quiet=quiet)
    except KeyboardInterrupt:
        _say_interrupted(state, run)
        raise
    if metrics is not None:
        metrics.close()
    result = _finish(prepared, state, group, run)
    group.barrier()  # no process leaves before the files are written
    return result


def _share_start(prepared: PreparedRun, group: ProcessGroup) -> None:
    """Give all processes the initial weights of the first one; a network from the user's code may start differently in each."""
    if group.world_size > 1:
        head = [prepared.source.head] if prepared.source else []
        start = nn.ModuleList([prepared.net, *head]).to(group.device)
        group.share(start.state_dict().values())


def _start_files(prepared: PreparedRun, state: TrainState, run: Path) -> MetricsWriter:
    """Make the run directory and write its configuration; returns the writer of its metrics."""
    try:
        run.mkdir(parents=True, exist_ok=True)
        save_config(prepared.config, run)
    except OSError as error:
        raise UserError(
            f"cannot write the run directory {run} ({error.strerror}); choose another --out"
        ) from error
    loop = prepared.config.loop
    return MetricsWriter(
        run,
        state.step,
        tensorboard=loop.tensorboard,
        trackers=loop.trackers,
        settings=asdict(prepared.config),
    )


def _announce(prepared: PreparedRun, started: str, device: torch.device) -> None:
    config, extra = prepared.config, prepared.unlabeled
    parameters = sum(p.numel() for p in prepared.net.parameters())
    sets = (
        f"{prepared.labeled.samples} labelled"
        + (f" + {extra.samples} unlabelled" if extra else "")
        + " images"
    )
    print(
        f"{config.method.name}: {config.model.arch} ({parameters / 1e6:.2f} M parameters, {started}), {sets}, "
        f"{prepared.spec.num_classes} classes, {prepared.spec.resolution} pixels, {config.optim.steps} steps of "
        f"{config.optim.batch_size} on {device} -> {config.out}"
    )
    for note in prepared.notes:
        print(note)


def _say_interrupted(state: TrainState, run: Path) -> None:
    start = "resumes from its last checkpoint"
    if not checkpoint_path(run).exists():
        start = "starts again: no checkpoint was written yet"
    print(f"interrupted at step {state.step}; the same command {start}", file=sys.stderr)


def _finish(prepared: PreparedRun, state: TrainState, group: ProcessGroup, run: Path) -> Result:
    """Save the chosen weights and evaluate them on the test images, which are opened here for the first time."""
    details: dict[str, Any] = {
        "accuracy": None,
        "val_accuracy": state.best["rank"][0] if state.best else None,
        "steps": state.step,
        "chosen_step": state.take_best(),
        "seconds": round(state.seconds, 3),
        "method": prepared.config.method.name,
        "arch": prepared.config.model.arch,
        "classes": prepared.spec.num_classes,
        "data": prepared.fingerprints,
        "settings": asdict(prepared.config),
        "torch": torch.__version__,
        "device": _device_name(group.device),
    }
    if not group.is_main:
        return make_result(run, details)
    classifier = state.classifier(prepared.spec)
    save_classifier(run / MODEL_FOLDER, classifier.net, prepared.spec)
    if prepared.test is not None:
        test = prepared.test()
        report = evaluate(classifier, test)
        write_test_predictions(run, test, report)
        figures = report.as_dict()
        # A million numbers for 1,000 classes; predictions.parquet has what they are counted from.
        del figures["confusion"]
        details |= {"accuracy": report.accuracy, "test": figures}
    result = make_result(run, details)
    write_result(result)
    drop_checkpoint(run)
    return result


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()
