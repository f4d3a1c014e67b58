"""What two processes of one gloo group do in tests, and how they are started."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import _set_pg_timeout

from ppcore.errors import UserError
from pptrain.config import load_config
from pptrain.engine import run as engine
from pptrain.engine import train
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.step import StepRunner
from pptrain.models import Network

Work = tuple[Callable[..., None], tuple[Any, ...]]
"""A function of a module that can be imported, and what it is given after the group."""


def _process(rank: int, port: int, works: tuple[Work, ...]) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    group = ProcessGroup("cpu")
    try:
        for work, arguments in works:
            work(group, *arguments)
    finally:
        group.close()


def in_two_processes(*works: Work) -> None:
    """Do one work after the other in two processes of one gloo group."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_process, args=(port, works), nprocs=2)


def train_and_resume(group: ProcessGroup, whole: list[dict[str, Any]], cut: list[dict[str, Any]]) -> None:
    """Train every run of `whole` to its end, and every run of `cut` to step 5 and then from its checkpoint to its end."""
    share_and_average(group)
    step, last_step = StepRunner.run, -1
    networks: list[Network] = []

    def watched(self: StepRunner, *arguments: Any) -> float:
        if self.state.step == last_step:
            raise KeyboardInterrupt
        networks[:] = [self.state.network]
        return step(self, *arguments)

    StepRunner.run = watched  # type: ignore[method-assign]
    for settings in whole + cut:
        if settings in cut:
            last_step = 5
            with pytest.raises(KeyboardInterrupt):
                train(load_config(overrides=settings), quiet=True)
            assert not Path(settings["out"], "result.json").exists()
        last_step = -1
        train(load_config(overrides=settings), quiet=True)
        for buffer in networks[0].buffers():
            mean = buffer.clone()
            group.average([mean])
            assert torch.equal(mean, buffer), settings["out"]  # equal in both processes
    StepRunner.run = step  # type: ignore[method-assign]


def explode(group: ProcessGroup, settings: dict[str, Any], out: Path) -> None:
    """Train a run whose loss becomes NaN in one process, and write the message of this process to `out`."""
    with pytest.raises(UserError) as caught:
        train(load_config(overrides=settings), quiet=True)
    (out / f"{group.rank}.txt").write_text(str(caught.value))


def count_exchanges(group: ProcessGroup, settings: dict[str, Any], out: Path) -> None:
    """Write to `out` how many objects this process exchanged with the others inside the loop of a run."""
    seen = []
    broadcast = ProcessGroup.broadcast
    ProcessGroup.broadcast = lambda self, value: (seen.append(value), broadcast(self, value))[1]  # type: ignore[method-assign]
    train(load_config(overrides=settings), quiet=True)
    ProcessGroup.broadcast = broadcast  # type: ignore[method-assign]
    (out / f"{group.rank}.txt").write_text(str(len(seen)))


def evaluate_slowly(group: ProcessGroup, settings: dict[str, Any]) -> None:
    """Train a run whose first process evaluates for longer than the timeout of the process group. Nothing is done after it."""
    _set_pg_timeout(timedelta(seconds=2), dist.group.WORLD)
    evaluate = engine.evaluate
    engine.evaluate = lambda *arguments: (time.sleep(4), evaluate(*arguments))[1]  # type: ignore[assignment,func-returns-value]
    assert (train(load_config(overrides=settings), quiet=True).accuracy is None) == (group.rank == 1)


def share_and_average(group: ProcessGroup) -> None:
    tensors = [torch.full((3,), float(group.rank)), torch.tensor(group.rank)]
    group.share(tensors)
    assert [t.sum().item() for t in tensors] == [0.0, 0]
    tensors = [torch.full((3,), float(group.rank)), torch.full((2, 2), 4.0 * group.rank)]
    group.average([*tensors, torch.tensor(3)])
    assert [t.mean().item() for t in tensors] == [0.5, 2.0]
    first = torch.tensor(group.rank + 3)
    group.least(first)
    assert first == 3
