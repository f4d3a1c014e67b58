"""The training loop: steps, and between them rows of metrics, evaluations and checkpoints."""

from __future__ import annotations

import time
from pathlib import Path

from ppcore.console import Progress
from ppcore.errors import UserError
from pptrain.config import TrainConfig
from pptrain.engine.prepare import PreparedRun
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.state import TrainState, checkpoint_path, save_checkpoint
from pptrain.engine.step import StepRunner, open_batches
from pptrain.evaluation import HeldImages, LossAverages, MetricsWriter
from pptrain.models import learning_rate

_CHECKPOINT_EVERY_S = 60.0


def fit(
    prepared: PreparedRun,
    state: TrainState,
    group: ProcessGroup,
    run: Path,
    *,
    metrics: MetricsWriter | None,
    quiet: bool = False,
) -> None:
    """Train from `state` to the last step, or until validation stops it early.

    Args:
        state: changed in place.
        run: run directory; checkpoints are written to it.
        metrics: receives rows of numbers; only the first process has one.
        quiet: show no progress bar.

    Raises:
        UserError: the loss became NaN or infinite.
    """
    config = prepared.config
    loop, steps = config.loop, config.optim.steps
    averages = LossAverages(group.device)
    runner = StepRunner(prepared, state, group, averages)
    evaluation = _Evaluation(prepared, state)
    progress = None
    if metrics is not None and not quiet:
        progress = Progress(steps, "steps", done=state.step, label=config.method.name)
    before, started = state.seconds, time.monotonic()
    pace, saved = _Pace(), started
    stopped = False
    with open_batches(prepared, state.step * config.optim.accumulate) as batches:
        while state.step < steps and not stopped:
            pace.count(runner.run(batches))
            now = time.monotonic()
            state.seconds = before + now - started
            last = state.step == steps
            evaluate = evaluation.possible and (state.step % loop.eval_every == 0 or last)
            row: dict[str, float] = {}
            if evaluate or state.step % loop.log_every == 0 or last:
                group.average(averages.sums.values())
                group.least(averages.first_bad)
                _require_finite(prepared, averages, run)
                row = averages.take(pace.steps * config.optim.accumulate) | pace.rates(config, now)
            elif group.device.type == "cpu" and group.world_size == 1:
                _require_finite(prepared, averages, run)  # a GPU or other processes would be waited for
            if evaluate:
                row |= evaluation.run()
                # Processors of different kinds may round differently, so the first process decides for all.
                stopped = loop.patience > 0 and group.broadcast(state.stale >= loop.patience)
            if row:
                pace = _Pace()  # evaluation does not count as time of steps
            if row and metrics is not None:
                metrics.write(_position(prepared, state) | row)
            if progress is not None:
                progress.advance(1, f"loss {row['loss']:.4f}" if "loss" in row else "")
            save = group.is_main and not last and not stopped and _save_due(config, state, now - saved)
            if save and state.is_finite():  # else the next row of metrics ends the run
                save_checkpoint(run, state)
                saved = time.monotonic()
    if progress is not None:
        progress.close("stopped early: validation no longer improves" if stopped else "")


class _Pace:
    """The speed of the steps since the last row of metrics."""

    def __init__(self) -> None:
        self.started, self.steps, self.waited = time.monotonic(), 0, 0.0

    def count(self, waited: float) -> None:
        """Count a step that waited `waited` seconds for data."""
        self.steps += 1
        self.waited += waited

    def rates(self, config: TrainConfig, now: float) -> dict[str, float]:
        """Labelled images per second, and the share of the time spent waiting for data."""
        seconds = max(now - self.started, 1e-9)
        return {
            "images_per_s": config.optim.batch_size * self.steps / seconds,
            "waiting": self.waited / seconds,
        }


class _Evaluation:
    """Evaluates the averaged weights on validation and monitored images, and keeps the best weights by validation."""

    def __init__(self, prepared: PreparedRun, state: TrainState) -> None:
        self.spec, self.state = prepared.spec, state
        keep_mb = prepared.config.data.resident_mb
        self.val, self.monitor = (
            None if images is None else HeldImages(images, prepared.spec, keep_mb=keep_mb)
            for images in (prepared.val, prepared.monitor)
        )

    @property
    def possible(self) -> bool:
        return self.val is not None or self.monitor is not None

    def run(self) -> dict[str, float]:
        """Evaluate; returns columns of metrics.csv."""
        classifier = self.state.classifier(self.spec)
        row: dict[str, float] = {}
        if self.val is not None:
            report = self.val.evaluate(classifier)
            self.state.keep_if_best(report.accuracy, report.loss)
            row = {"val_accuracy": report.accuracy, "val_loss": report.loss}
        if self.monitor is not None:
            row["monitor_accuracy"] = self.monitor.evaluate(classifier).accuracy
        return row


def _position(prepared: PreparedRun, state: TrainState) -> dict[str, float]:
    """The columns of metrics.csv that say when a row was written."""
    optim = prepared.config.optim
    return {
        "step": state.step,
        "epoch": state.step * optim.batch_size / prepared.labeled.samples,
        "lr": learning_rate(optim, state.step - 1),
        "seconds": state.seconds,
    }


def _save_due(config: TrainConfig, state: TrainState, seconds: float) -> bool:
    every = config.loop.checkpoint_every
    return state.step % every == 0 if every else seconds > _CHECKPOINT_EVERY_S


def _require_finite(prepared: PreparedRun, averages: LossAverages, run: Path) -> None:
    """Raise UserError with the step, its first images and what to do if a loss was NaN or infinite."""
    step = averages.first_bad_step()
    if step is None:
        return
    keys = []
    for feed in (prepared.labeled, prepared.unlabeled):
        if feed is not None:
            index = next(feed.batches(step * prepared.config.optim.accumulate)).ids[:4].tolist()
            keys += [feed.key(i) for i in index]
    last = checkpoint_path(run)
    kept = f"The last good checkpoint is {last}" if last.exists() else "No checkpoint was written yet"
    raise UserError(
        f"the loss is not a number at step {step} (its batch starts with {', '.join(keys)}); lower optim.lr or set optim.clip. {kept}"
    )
