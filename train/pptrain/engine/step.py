"""One optimiser step: stored batch -> views -> loss of the method -> gradients, averaged over the processes -> new weights."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ppcore.seeds import derive
from pptrain.data import RawBatch, ResidentFeed, ViewKey, ViewKind, Views
from pptrain.engine.prepare import PreparedRun
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.state import TrainState
from pptrain.evaluation import LossAverages
from pptrain.methods import Batch, Method
from pptrain.models import Graphs, Network, choose_layout, learning_rate, set_rate

_AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}

Batches = Iterator[tuple[RawBatch, RawBatch | None]]
"""Labelled batches, each with the unlabelled batch of the same step."""


@contextmanager
def open_batches(prepared: PreparedRun, first: int) -> Iterator[Batches]:
    """Pairs of labelled and unlabelled batches from number `first` on; the decoding processes end with the context."""
    with ExitStack() as feeds:
        labeled = feeds.enter_context(closing(prepared.labeled.batches(first)))
        if prepared.unlabeled is None:
            yield zip(labeled, repeat(None), strict=False)
        else:
            unlabeled = feeds.enter_context(closing(prepared.unlabeled.batches(first)))
            yield zip(labeled, unlabeled, strict=False)


class MethodLoss(nn.Module):
    """The whole loss of a method as one module, so that DistributedDataParallel sees one forward pass per backward pass.

    This carries every method: the inner passes of VAT end inside `forward` and ask for gradients of images only, and the mean
    teacher's weights need no gradient and are not part of this module.
    """

    def __init__(self, network: Network, method: Method) -> None:
        super().__init__()
        self.network, self.method = network, method

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """{"loss": () with a gradient, name: () without one}."""
        losses = self.method.step(self.network, batch, progress)
        # DDP waits for the gradient of everything that a returned tensor depends on, so only the loss may depend on weights.
        return {name: loss if name == "loss" else loss.detach() for name, loss in losses.items()}


class StepRunner:
    """Takes optimiser steps. It handles devices, precision and processes; the method handles the batch.

    Args:
        state: changed by every step.
        averages: receives the losses of every step.
    """

    def __init__(
        self, prepared: PreparedRun, state: TrainState, group: ProcessGroup, averages: LossAverages
    ) -> None:
        self.prepared, self.state, self.group, self.averages = prepared, state, group, averages
        self.config, self.device = prepared.config, group.device
        self.layout = choose_layout(prepared.net, self.device, self.config.loop.channels_last)
        spec = prepared.spec
        self.views = Views(
            self.config.views, spec.resolution, spec.channels, self.config.seed, resize=spec.resize
        )
        if self.config.loop.compile:
            state.network.net.compile()  # in place: all callers use the compiled network, copies of it do not
        if self.config.loop.graphs:
            state.network.graphs = Graphs()
        self.loss: nn.Module = MethodLoss(state.network, state.method)
        if group.world_size > 1:
            # A method may leave parameters without a gradient, such as an unused source head. Buffers are averaged by `run`.
            # PyTorch warns if it found none.
            warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
            self.loss = DistributedDataParallel(
                self.loss, broadcast_buffers=False, find_unused_parameters=True
            )
        for feed in (prepared.labeled, prepared.unlabeled):
            if isinstance(feed, ResidentFeed):
                feed.to(self.device)

    def run(self, batches: Batches) -> float:
        """One optimiser step, of `optim.accumulate` batches; returns the seconds spent waiting for data."""
        state, parts = self.state, self.config.optim.accumulate
        # The seed of everything random below (dropout, mixup, probes) depends on the step, so that a resumed run repeats it.
        torch.manual_seed(derive(self.config.seed, "step", state.step, self.group.rank))
        waited = 0.0
        state.network.train()
        for part in range(parts):
            begun = time.monotonic()
            labeled, unlabeled = next(batches)
            waited += time.monotonic() - begun
            batch = self._batch(labeled, unlabeled, state.step * parts + part)
            with nullcontext() if part == parts - 1 else self._without_exchange():
                self._backward(batch)
        self._update()
        # Running statistics of batch norm are linear in the batches, so their mean is that of the global batch up to the variance
        # between processes. All processes then hold equal buffers, and the checkpoint of the first one serves all.
        self.group.average(state.network.net.buffers())
        state.ema.update(state.network)
        state.method.after_step(state.network)
        state.step += 1
        return waited

    def _without_exchange(self) -> AbstractContextManager[Any]:
        """Gradients of a batch that is not the last of its step stay in this process."""
        return self.loss.no_sync() if isinstance(self.loss, DistributedDataParallel) else nullcontext()

    def _backward(self, batch: Batch) -> None:
        """Add the gradients of one batch."""
        state, optim = self.state, self.config.optim
        if state.network.graphs is not None:
            state.network.graphs.next_batch()
        with self._autocast():
            losses = self.loss(batch, state.step / optim.steps)
        state.scaler.scale(losses["loss"] / optim.accumulate).backward()
        self.averages.add(losses, state.step)

    def _update(self) -> None:
        """Change the weights by the accumulated gradients."""
        state, optim = self.state, self.config.optim
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
        """One view of every image; made group by group, so that it does not depend on the number of processes."""
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
