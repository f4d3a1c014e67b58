"""What two processes of one gloo group do in tests, and how they are started."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ppcore.errors import UserError
from pptrain.config import load_config
from pptrain.engine import train
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.step import StepRunner

Runs = dict[str, dict[str, Any]]


def _process(rank: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    group = ProcessGroup("cpu")
    try:
        work(group, *arguments)
    finally:
        group.close()


def in_two_processes(work: Callable[..., None], *arguments: Any) -> None:
    """Run `work(group, *arguments)`, a function of a module that can be imported, in two processes of one gloo group."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_process, args=(port, work, arguments), nprocs=2)


def train_all(group: ProcessGroup, runs: Runs) -> None:
    """Train every run to its end."""
    for settings in runs.values():
        train(load_config(overrides=settings), quiet=True)


def interrupt_and_resume(group: ProcessGroup, whole: dict[str, Any], cut: dict[str, Any], out: Path) -> None:
    """Train `whole` to its end, and `cut` to step 7 and then to its end; `out` gets this process's batch norm statistics of `whole`."""
    step = StepRunner.run
    buffers: dict[str, Any] = {}

    def watched(self: StepRunner, *arguments: Any) -> float:
        if self.config.out == cut["out"] and self.state.step == 7:
            raise KeyboardInterrupt
        waited = step(self, *arguments)
        buffers.update({name: t.clone() for name, t in self.state.network.net.named_buffers()})
        return waited

    StepRunner.run = watched  # type: ignore[method-assign]
    train(load_config(overrides=whole), quiet=True)
    torch.save(buffers, out / f"{group.rank}.pt")
    try:
        train(load_config(overrides=cut), quiet=True)
    except KeyboardInterrupt:
        assert not Path(cut["out"], "result.json").exists()
    StepRunner.run = step  # type: ignore[method-assign]
    train(load_config(overrides=cut), quiet=True)
    share_and_average(group)


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
    (out / f"{group.rank}.txt").write_text(str(len(seen)))


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
