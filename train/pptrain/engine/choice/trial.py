"""A few steps of a run under each candidate, on copies: nothing of the run is moved by it, its random states included."""

from __future__ import annotations

import copy
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from pptrain.data import Feed, RawBatch
from pptrain.engine.choice.cache import Measured
from pptrain.engine.choice.numerics import Numerics
from pptrain.engine.parallel import Gradients
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.state import make_state
from pptrain.engine.step import StepRunner
from pptrain.engine.task import Task
from pptrain.evaluation import LossAverages
from pptrain.methods import make_method

BUDGET_S = 3.5  # of all steps together; copies and the step that is under way come on top
ROUNDS = 3  # timed steps of each candidate, where the budget allows it; one that warms up comes before
_MOST_ROUNDS = 9
_AT_ONCE_S, _MOST_AT_ONCE = 0.1, 10  # of steps that are timed together on CUDA
_LOOKS = (2, 8)  # labelled images of the first steps, which say how large a batch the budget allows
_HOPELESS = 1.3  # a candidate so many times as slow as the best is not tried again
_MOST_FIXED = 0.25  # share of a step's time, for a few images to stand for the batch
_MARGIN = 0.97  # another candidate than the first must need less than this share of its time

Raw = tuple[RawBatch, RawBatch | None]


def measure(task: Task, group: ProcessGroup, tried: Sequence[Numerics]) -> Measured | None:
    """Time the candidates in turns and choose by each one's fastest step, so that other work on the machine does not decide.

    Where steps of the whole batch would take longer than the budget in all, a part of the batch stands for it, and where that were
    too small a part, the layout is left as it is. A candidate that fails is left out. None when the first one fails, or takes too
    long for that with two images.
    """
    with _undisturbed(group.device):
        batch, clock = _batch(task), _clock(group.device)
        whole = len(batch[0].images)
        first = _Rig(
            task, group, tried[0]
        )  # the first optimiser of a process loads modules for a second or two
        begun = clock()
        cost = _look(first, batch)
        left = begun + BUDGET_S - clock()
        if cost is None:
            return None
        if cost.images(left / ((ROUNDS + 1) * len(tried))) < min(whole, _LOOKS[1]):
            # Precision makes more of a difference than layout, and half as many candidates take batches twice as large.
            tried = [one for one in tried if one.channels_last == tried[0].channels_last]
        if cost.of(2) * 2 * len(tried) > left:
            return None
        rigs = [first, *(_Rig(task, group, other) for other in tried[1:])]
        size = min(whole, cost.images(left / ((ROUNDS + 1) * len(rigs))))
        if size < min(whole, _LOOKS[1]) and cost.fixed > _MOST_FIXED * cost.of(size):
            return None  # what such a batch takes says nothing of the whole one
        _race(rigs, _part(batch, size), begun + BUDGET_S)
    best = min(rigs, key=lambda rig: rig.best)
    chosen = best if best.best < _MARGIN * first.best else first
    if chosen.best == math.inf:
        return None
    rates = {str(rig.numerics): round(1.0 / rig.best, 3) for rig in rigs}
    whole_s = chosen.best * cost.of(whole) / cost.of(size)
    return Measured(chosen.numerics, whole_s, rates, size)


@dataclass(frozen=True)
class _Cost:
    """Seconds of a step: `fixed` and `each` labelled image's, with its unlabelled ones."""

    fixed: float
    each: float

    def of(self, images: int) -> float:
        return self.fixed + self.each * images

    def images(self, seconds: float) -> int:
        """The largest batch that takes so long, of two images at least."""
        return max(2, int((seconds - self.fixed) / self.each))


def _look(rig: _Rig, batch: Raw) -> _Cost | None:
    """From two steps of small batches, each after one that warms up; None when the first takes too long."""
    few, more = (min(look, len(batch[0].images)) for look in _LOOKS)
    if rig.step(_part(batch, few)) > 0.5 * BUDGET_S:
        return None
    little = rig.step(_part(batch, few))
    if few == more or little * 20 > BUDGET_S:
        return _Cost(0.0, little / few)
    rig.step(_part(batch, more))
    each = max((rig.step(_part(batch, more)) - little) / (more - few), 0.05 * little / few)
    return _Cost(max(little - each * few, 0.0), each)


def _race(rigs: Sequence[_Rig], batch: Raw, deadline: float) -> None:
    """Steps in turns until the deadline, or until enough were timed; each candidate has one at least."""
    count = 1
    for number in range(_MOST_ROUNDS + 1):
        fastest = min(rig.best for rig in rigs)
        for rig in rigs:
            late = rigs[0].clock() > deadline and number > 1
            if not late and rig.works and rig.best <= _HOPELESS * fastest:
                seconds = rig.step(batch, count)
                if number:  # the first one makes kernels and buffers
                    rig.best = min(rig.best, seconds)
        if not number and rigs[0].device.type == "cuda":
            # A step overlaps with the one before, so several are timed at once.
            count = max(1, min(_MOST_AT_ONCE, int(_AT_ONCE_S / rigs[0].step(batch))))


class _Rig:
    """A copy of the run under one candidate."""

    def __init__(self, task: Task, group: ProcessGroup, numerics: Numerics) -> None:
        self.numerics, self.device = numerics, group.device
        self.works, self.best, self.clock = True, math.inf, _clock(group.device)
        config = numerics.into(task.config)
        config = replace(config, optim=replace(config.optim, accumulate=1))
        source = task.source and replace(task.source, head=copy.deepcopy(task.source.head))
        method = make_method(config.method.name, config.method.options)
        mine = replace(task, config=config, net=copy.deepcopy(task.net), method=method, source=source)
        self.runner = StepRunner(
            mine, make_state(mine, group.device), _Alone(group), LossAverages(group.device)
        )

    def step(self, batch: Raw, count: int = 1) -> float:
        """Seconds of an optimiser step, infinite when it fails: no kernel for a type, no compiler, no memory for another copy."""
        begun = self.clock()
        try:
            for _ in range(count):
                self.runner.run(iter([batch]))
        except RuntimeError:
            self.works = False
            return math.inf
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return (self.clock() - begun) / count


class _Alone(ProcessGroup):
    """One process that waits for no other, whatever it is one of."""

    def __init__(self, group: ProcessGroup) -> None:
        self.device, self.rank, self.world_size = group.device, group.rank, group.world_size

    def average(self, tensors: object) -> None:
        """Leave them as they are."""

    def gradients(self, model: nn.Module) -> Gradients:
        return Gradients(model, 1)


def _batch(task: Task) -> Raw:
    """Images of noise in the shapes of a batch of the run: what is timed depends on no data."""
    generator = torch.Generator().manual_seed(0)

    def drawn(feed: Feed, classes: int) -> RawBatch:
        count = feed.share.local
        images = torch.randint(0, 256, (count, *feed.shape), dtype=torch.uint8, generator=generator)
        labels = torch.randint(0, classes, (count,), generator=generator)
        return RawBatch(images, labels, torch.randint(0, feed.samples, (count,), generator=generator))

    labeled = drawn(task.labeled, task.spec.num_classes)
    return labeled, None if task.unlabeled is None else drawn(task.unlabeled, task.spec.num_classes)


def _part(batch: Raw, size: int) -> Raw:
    """The first `size` labelled images and as large a share of the unlabelled ones."""
    labeled, unlabeled = batch
    share = size / len(labeled.images)
    few = None if unlabeled is None else _first(unlabeled, math.ceil(share * len(unlabeled.images)))
    return _first(labeled, size), few


def _first(batch: RawBatch, count: int) -> RawBatch:
    return RawBatch(*(tensor[:count] for tensor in batch))


def _clock(device: torch.device) -> Callable[[], float]:
    """Seconds; of the processor where one thread computes, so that other processes do not count."""
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter


@contextmanager
def _undisturbed(device: torch.device) -> Iterator[None]:
    """All random states are afterwards what they were before."""
    python, numbers = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)
