"""One optimiser step: stored batch -> views -> the method's losses -> gradients, averaged over the processes -> new weights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from ppcore.seeds import derive
from pptrain.data import RawBatch, RawPair, ResidentFeed, ViewKey, ViewKind, Views, prefetched
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.state import TrainState
from pptrain.engine.task import Task
from pptrain.evaluation import LossAverages
from pptrain.methods import Batch
from pptrain.models import Graphs, choose_layout, learning_rate, set_rate

_AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}

Batches = Iterator[RawPair]


@contextmanager
def open_batches(task: Task, first: int, device: torch.device) -> Iterator[Batches]:
    """Pairs of labelled and unlabelled batches from number `first` on, for `device`; the decoding processes end whatever happens."""
    with ExitStack() as feeds:
        labeled = feeds.enter_context(closing(task.labeled.batches(first)))
        if task.unlabeled is None:
            yield prefetched(zip(labeled, repeat(None), strict=False), device)
        else:
            unlabeled = feeds.enter_context(closing(task.unlabeled.batches(first)))
            yield prefetched(zip(labeled, unlabeled, strict=False), device)


class StepRunner:
    """Takes optimiser steps; it knows devices and precision, and nothing of what a method does with a batch.

    Args:
        state: is moved on by every step.
        averages: takes in every step's losses.
    """

    def __init__(self, task: Task, state: TrainState, group: ProcessGroup, averages: LossAverages) -> None:
        self.task, self.state, self.group, self.averages = task, state, group, averages
        self.config, self.device = task.config, group.device
        self.layout = choose_layout(task.net, self.device, self.config.loop.channels_last)
        self.views = Views(self.config.views, task.spec.resolution, task.spec.channels, self.config.seed)
        self.gradients = group.gradients(state.network)
        if self.config.loop.compile:
            state.network.net.compile()  # in place: every way to the network is compiled, its copies are not
        if self.config.loop.graphs:
            state.network.graphs = Graphs()
        for feed in (task.labeled, task.unlabeled):
            if isinstance(feed, ResidentFeed):
                feed.to(self.device)

    def run(self, batches: Batches) -> float:
        """One optimiser step, of `optim.accumulate` batches; returns the seconds spent waiting for data."""
        state = self.state
        # Everything random below (dropout, mixup, probes) is a function of the step: a resumed run repeats it.
        torch.manual_seed(derive(self.config.seed, "step", state.step, self.group.rank))
        waited = 0.0
        state.network.train()
        for part in range(self.config.optim.accumulate):
            begun = time.monotonic()
            labeled, unlabeled = next(batches)
            waited += time.monotonic() - begun
            if part == self.config.optim.accumulate - 1:
                self.gradients.expect()
            self._backward(self._batch(labeled, unlabeled, state.step * self.config.optim.accumulate + part))
        self._update()
        state.ema.update(state.network)
        state.method.after_step(state.network)
        self.group.average(state.method.state.values())
        state.step += 1
        return waited

    def _backward(self, batch: Batch) -> None:
        """Add the gradients of one batch."""
        state, optim = self.state, self.config.optim
        if state.network.graphs is not None:
            state.network.graphs.next_batch()
        with self._autocast():
            losses = state.method.step(state.network, batch, state.step / optim.steps)
        state.scaler.scale(losses["loss"] / optim.accumulate).backward()
        self.averages.add(losses, state.step)

    def _update(self) -> None:
        """Move the weights along the gradients' mean over all processes."""
        state, optim = self.state, self.config.optim
        self.gradients.finish()
        if optim.clip > 0:
            state.scaler.unscale_(state.optimizer)
            torch.nn.utils.clip_grad_norm_(state.network.parameters(), optim.clip)
        set_rate(state.optimizer, learning_rate(optim, state.step))
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.optimizer.zero_grad(set_to_none=True)

    def _batch(self, labeled: RawBatch, unlabeled: RawBatch | None, number: int) -> Batch:
        """The views of batch `number`, on the device."""
        x = self._view(labeled.images, ViewKind(self.config.views.labeled), "x", number)
        y = labeled.labels.to(self.device, non_blocking=True)
        if unlabeled is None:
            return Batch(x, y)
        views = {
            view: self._view(unlabeled.images, view.kind, view, number) for view in self.state.method.views
        }
        index, labeled_index = (
            ids.to(self.device, non_blocking=True) for ids in (unlabeled.ids, labeled.ids)
        )
        return Batch(x, y, views, index, labeled_index)

    def _view(self, images: Tensor, kind: ViewKind, stream: str, number: int) -> Tensor:
        """One view of every image, made group by group so that it does not depend on the number of processes."""
        images = images.to(self.device, non_blocking=True)
        groups = self.config.data.groups // self.group.world_size
        first = self.group.rank * groups
        parts = [
            self.views.make(part, kind, ViewKey(stream, number, first + group))
            for group, part in enumerate(images.chunk(groups))
        ]
        x = parts[0] if len(parts) == 1 else torch.cat(parts)
        return x.to(memory_format=self.layout)

    def _autocast(self) -> AbstractContextManager[Any]:
        dtype = _AMP.get(self.config.loop.amp)
        return torch.autocast(self.device.type, dtype=dtype) if dtype else nullcontext()
