"""The training loop: it knows steps, devices and files, and nothing of what a method does with a batch."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ppcore.classifiers import Classifier
from ppcore.console import Progress
from ppcore.errors import UserError
from ppcore.seeds import derive
from ppcore.targets import ImageSet
from pptrain.data import RawBatch, ResidentFeed, ViewKey, ViewKind, Views
from pptrain.engine.checkpoint import FOLDER, LAST, save_checkpoint
from pptrain.engine.meter import Meter
from pptrain.engine.optimiser import make_optimizer, rate_factor, set_rate
from pptrain.engine.ranks import Ranks
from pptrain.engine.task import Task
from pptrain.evaluation import Metrics, Report, load_images, predict_logits, summarize
from pptrain.methods import Batch, Context
from pptrain.models import Ema, Network, Teacher, choose_layout

_AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}
_CHECKPOINT_EVERY_S = 60.0

Batches = Generator[RawBatch, None, None]


class Trainer:
    """One run's state and its loop.

    Args:
        task: see :func:`pptrain.engine.task.open_task`.
        ranks: this process among those that train together.
        run: run directory.
    """

    def __init__(self, task: Task, ranks: Ranks, run: Path) -> None:
        self.task, self.ranks, self.run = task, ranks, run
        self.config, self.device = task.config, ranks.device
        self.steps = self.config.optim.steps
        self.layout = choose_layout(task.net, self.device, self.config.loop.channels_last)
        self.network = Network(task.net, task.spec).to(self.device, memory_format=self.layout)  # type: ignore[call-overload]
        self.ema = Ema(self.network, self.config.loop.ema)
        self.optimizer = make_optimizer(self.network, self.config.optim)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.config.loop.amp == "fp16")
        self.views = Views(self.config.views, task.spec.resolution, task.spec.channels, self.config.seed)
        self.method = task.method
        self.method.setup(
            Context(
                num_classes=task.spec.num_classes,
                model=self.network,
                batch_norm=self.config.method.batch_norm,
                unlabeled_samples=task.unlabeled.samples if task.unlabeled else 0,
                teacher=Teacher(task.teacher).to(self.device) if task.teacher else None,
            )
        )
        self.model: nn.Module = torch.compile(self.network) if self.config.loop.compile else self.network  # type: ignore[assignment]
        self.step = 0
        self.seconds = 0.0  # of training, over all interruptions
        self.best: dict[str, Any] = {}
        self.stale = 0  # evaluations since the best
        self.meter = Meter(self.device)
        self._decoded: dict[int, Tensor] = {}
        for feed in (task.labeled, task.unlabeled):
            if isinstance(feed, ResidentFeed):
                feed.to(self.device)

    # ---- the loop

    def fit(self, metrics: Metrics | None, *, quiet: bool = False) -> None:
        """Train to the last step, or to an early stop.

        Args:
            metrics: where rows go; None on all processes but the first.

        Raises:
            UserError: the loss stopped being a number.
        """
        first = self.step * self.config.optim.accumulate
        with ExitStack() as feeds:  # ends the decoding processes whatever happens
            labeled = feeds.enter_context(closing(self.task.labeled.batches(first)))
            unlabeled = None
            if self.task.unlabeled is not None:
                unlabeled = feeds.enter_context(closing(self.task.unlabeled.batches(first)))
            self._fit(labeled, unlabeled, metrics, quiet=quiet)

    def _fit(
        self, labeled: Batches, unlabeled: Batches | None, metrics: Metrics | None, *, quiet: bool
    ) -> None:
        loop, optim = self.config.loop, self.config.optim
        progress = None
        if metrics is not None and not quiet:
            progress = Progress(self.steps, "steps", done=self.step, label=self.config.method.name)
        started = saved = logged = time.monotonic()
        before, waited, since = self.seconds, 0.0, self.step
        stopped = False
        while self.step < self.steps and not stopped:
            waited += self._one_step(labeled, unlabeled)
            now = time.monotonic()
            self.seconds = before + now - started
            last = self.step == self.steps
            row: dict[str, float] = {}
            due = self.step % loop.eval_every == 0 or last
            judge, watch = due and self.task.val is not None, due and self.task.monitor is not None
            if self.step % loop.log_every == 0 or last or judge or watch:
                row = self._means(self.step - since)
                row |= {"images_per_s": optim.batch_size * (self.step - since) / max(now - logged, 1e-9)}
                row |= {"waiting": waited / max(now - logged, 1e-9)}
                waited, since = 0.0, self.step
            elif self.device.type == "cpu":
                self._check_finite()
            if judge:
                report = self._validate()
                row |= {"val_accuracy": report.accuracy, "val_loss": report.loss}
                stopped = bool(loop.patience) and self.stale >= loop.patience
            if watch:
                row |= {"monitor_accuracy": self._judge(self.task.monitor).accuracy}
            if row:
                logged = time.monotonic()  # looking at validation images is no part of a step's time
            if row and metrics is not None:
                metrics.write(self._described(row))
            if progress is not None:
                progress.advance(1, f"loss {row['loss']:.4f}" if "loss" in row else "")
            if not last and not stopped and self._save_due(now - saved):
                self.save()
                saved = time.monotonic()
        if progress is not None:
            progress.close("stopped early: validation no longer improves" if stopped else "")

    def _one_step(self, labeled: Batches, unlabeled: Batches | None) -> float:
        """One optimiser step; returns the seconds spent waiting for data."""
        optim = self.config.optim
        # Everything random below (dropout, mixup, probes) is a function of the step: a resumed run repeats it.
        torch.manual_seed(derive(self.config.seed, "step", self.step, self.ranks.rank))
        waited = 0.0
        self.network.train()
        for part in range(optim.accumulate):
            begun = time.monotonic()
            images = next(labeled)
            extra = next(unlabeled) if unlabeled is not None else None
            waited += time.monotonic() - begun
            batch = self._batch(images, extra, self.step * optim.accumulate + part)
            with self._autocast():
                losses = self.method.step(self.model, batch, self.step / self.steps)
            self.scaler.scale(losses["loss"] / optim.accumulate).backward()
            self.meter.add(losses, self.step)
        parameters = [p for p in self.network.parameters() if p.grad is not None]
        self.ranks.average(p.grad for p in parameters if p.grad is not None)
        if optim.clip > 0:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(parameters, optim.clip)
        set_rate(self.optimizer, optim.lr * rate_factor(optim, self.step, self.steps))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(self.network)
        self.method.after_step(self.network)
        self.ranks.average(self.method.state.values())
        self.step += 1
        return waited

    def _batch(self, images: RawBatch, extra: RawBatch | None, number: int) -> Batch:
        """Views of a batch, made on the device, group by group so that they do not depend on the number of processes."""
        x = self._view(images.images, ViewKind(self.config.views.labeled), "x", number)
        y = images.labels.to(self.device, non_blocking=True)
        if extra is None:
            return Batch(x, y)
        views = {view: self._view(extra.images, view.kind, view, number) for view in self.method.views}
        return Batch(x, y, views, extra.ids.to(self.device, non_blocking=True))

    def _view(self, images: Tensor, kind: ViewKind, name: str, number: int) -> Tensor:
        images = images.to(self.device, non_blocking=True)
        groups = self.task.config.data.groups // self.ranks.world
        first = self.ranks.rank * groups
        parts = [
            self.views.make(part, kind, ViewKey(name, number, first + group))
            for group, part in enumerate(images.chunk(groups))
        ]
        x = parts[0] if len(parts) == 1 else torch.cat(parts)
        return x.to(memory_format=self.layout)

    def _autocast(self) -> Any:
        dtype = _AMP.get(self.config.loop.amp)
        return torch.autocast(self.device.type, dtype=dtype) if dtype else nullcontext()

    # ---- numbers

    def _means(self, steps: int) -> dict[str, float]:
        """Means of the named losses since the last row, over all processes."""
        self._check_finite()
        self.ranks.average(self.meter.sums.values())
        return self.meter.take(steps * self.config.optim.accumulate)

    def _described(self, row: dict[str, float]) -> dict[str, float]:
        optim = self.config.optim
        return {
            "step": self.step,
            "epoch": self.step * optim.batch_size / self.task.labeled.samples,
            "lr": optim.lr * rate_factor(optim, self.step - 1, self.steps),
            "seconds": self.seconds,
            **row,
        }

    def _check_finite(self) -> None:
        step = self.meter.first_bad_step()
        if step is None:
            return
        number = step * self.config.optim.accumulate
        keys = []
        for feed in (self.task.labeled, self.task.unlabeled):
            if feed is not None:
                index = next(feed.batches(number)).ids[:4].tolist()
                keys += [feed.key(i) for i in index]
        last = self.run / FOLDER / LAST
        raise UserError(
            f"the loss is not a number at step {step} (batch starts with {', '.join(keys)}); lower optim.lr or set optim.clip, "
            f"{f'the last good checkpoint is {last}' if last.exists() else 'no checkpoint was written yet'}"
        )

    def _judge(self, images: ImageSet | None) -> Report:
        """Judge the averaged weights on images that are decoded once and kept."""
        assert images is not None
        classifier = self.classifier()
        if id(images) not in self._decoded:
            self._decoded[id(images)] = load_images(images, classifier.spec)
        logits = predict_logits(classifier, self._decoded[id(images)])
        return summarize(logits, torch.from_numpy(images.labels))

    def _validate(self) -> Report:
        """Judge the averaged weights on the validation images; keep them when they are the best so far."""
        self.ranks.average(self.ema.model.buffers())
        report = self._judge(self.task.val)
        rank = [report.accuracy, -report.loss]
        if not self.best or rank > self.best["rank"]:
            weights = {n: t.detach().cpu().clone() for n, t in self.ema.model.state_dict().items()}
            self.best = {"rank": rank, "step": self.step, "weights": weights}
            self.stale = 0
        else:
            self.stale += 1
        return report

    # ---- results and resume points

    def classifier(self) -> Classifier:
        """The averaged weights as a classifier."""
        assert isinstance(self.ema.model, Network)
        return Classifier(self.ema.model.net, self.task.spec).to(self.device).eval()

    def take_best(self) -> int:
        """Load the best weights by validation into the average; returns the step they are from."""
        self.ranks.average(self.ema.model.buffers())
        if self.best:
            self.ema.model.load_state_dict(self.best["weights"])
            return int(self.best["step"])
        return self.step

    def _save_due(self, seconds: float) -> bool:
        every = self.config.loop.checkpoint_every
        return self.step % every == 0 if every else bool(self.ranks.share(seconds > _CHECKPOINT_EVERY_S))

    def save(self) -> None:
        """Write the resume point."""
        self._check_finite()
        if not self.ranks.first:
            return
        save_checkpoint(
            self.run,
            {
                "step": self.step,
                "seconds": self.seconds,
                "model": self.network.state_dict(),
                "ema": self.ema.model.state_dict() if self.config.loop.ema else {},
                "ema_steps": self.ema.steps,
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "method": self.method.state_dict(),
                "best": self.best,
                "stale": self.stale,
            },
        )

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`save` wrote."""
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        self.network.load_state_dict(state["model"])
        if self.config.loop.ema:
            self.ema.model.load_state_dict(state["ema"])
        self.ema.steps = int(state["ema_steps"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.method.load_state_dict(state["method"])
        self.best, self.stale = state["best"], int(state["stale"])
