"""What two processes of one gloo group check, each for itself."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pptrain.config import load_config
from pptrain.engine.choice import Numerics, settling
from pptrain.engine.choice.cache import Measured
from pptrain.engine.parallel import Gradients
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.task import open_task
from pptrain.models import by_first, synced, untracked


def _process(rank: int, port: int, work: Callable[[ProcessGroup], None]) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    group = ProcessGroup("cpu")
    try:
        work(group)
    finally:
        group.close()


def in_two_processes(work: Callable[[ProcessGroup], None]) -> None:
    """Run `work`, a function of a module that can be imported, in two processes of one gloo group."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_process, args=(port, work), nprocs=2)


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 3)
    )


def semi_supervised_loss(net: nn.Module, x: Tensor) -> Tensor:
    """Several forward passes in different modes; the last layer is left out of one of them."""
    loss = net(x[:4]).square().mean()
    with untracked(net):
        with torch.no_grad():
            target = net(x[4:8])
        loss = loss + (net(x[8:]) - target).square().mean()
    assert isinstance(net, nn.Sequential)
    return loss + net[:-1](x[:4]).abs().mean()


def same_as_averaging_afterwards(group: ProcessGroup) -> None:
    for bucket_bytes in (1, 600, 1 << 20):
        ours, plain = (nn.ModuleList([small_net(), nn.Linear(2, 2, bias=False)]) for _ in range(2))
        gradients = Gradients(ours, group.world_size, bucket_bytes)
        for step in range(4):
            for part in range(2):  # two micro-batches: only the second one's backward pass sends
                generator = torch.Generator().manual_seed(10 * step + 2 * part + group.rank)
                x = torch.randn(12, 1, 6, 6, generator=generator)
                if part == 1:
                    gradients.expect()
                for nets in (ours, plain):
                    loss = semi_supervised_loss(nets[0], x)
                    if step >= 2:  # a head that had no weight before
                        loss = loss + nets[1](x[:2, 0, 0, :2]).square().sum()
                    loss.backward()
            assert gradients.under_way or step == 0  # the first step waits for the idle head to its end
            gradients.finish()
            lonely = [p.grad.clone() for p in plain.parameters() if p.grad is not None]
            assert len(lonely) == len(list(plain.parameters())) - (step < 2)
            for gradient in (p.grad for p in plain.parameters() if p.grad is not None):
                everybodys = [torch.empty_like(gradient) for _ in range(group.world_size)]
                dist.all_gather(everybodys, gradient)
                gradient.copy_(torch.stack(everybodys).sum(0) / group.world_size)
            for parameter, mean in zip(ours.parameters(), plain.parameters(), strict=True):
                assert (parameter.grad is None) == (mean.grad is None)
                assert parameter.grad is None or torch.equal(parameter.grad, mean.grad)
            assert not all(torch.equal(a, p.grad) for a, p in zip(lonely, plain.parameters(), strict=False))
            ours.zero_grad()
            plain.zero_grad()


def one_batch_norm(group: ProcessGroup) -> None:
    x = torch.randn(12, 1, 6, 6, generator=torch.Generator().manual_seed(3))
    mine = x[group.rank :: 2]
    for first in (False, True):
        whole, shared = small_net(), small_net()
        shared.load_state_dict(whole.state_dict())
        synced(shared)
        assert list(shared.state_dict()) == list(whole.state_dict())
        if first:  # each process's first two images make the statistics: together the first four
            with by_first(whole, 4):
                outputs = whole(torch.cat([x[:4], x[4:]]))
            with by_first(shared, 2):
                own = shared(mine)
        else:
            outputs, own = whole(x), shared(mine)
        assert torch.allclose(own, outputs[group.rank :: 2], atol=1e-5)
        outputs.square().mean().backward()
        gradients = Gradients(shared, 2)
        gradients.expect()
        own.square().mean().backward()
        gradients.finish()
        for a, b in zip(whole.parameters(), shared.parameters(), strict=True):
            assert torch.allclose(a.grad, b.grad, atol=1e-5)
        for a, b in zip(whole.buffers(), shared.buffers(), strict=True):
            assert torch.allclose(a, b, atol=1e-6)
        assert torch.allclose(whole.eval()(x), shared.eval()(x), atol=1e-5)


def one_start(group: ProcessGroup) -> None:
    tensors = [torch.full((3,), float(group.rank)), torch.tensor(group.rank)]
    group.share(tensors)
    assert [t.sum().item() for t in tensors] == [0.0, 0]


def one_choice(group: ProcessGroup) -> None:
    """The first process measures and decides; the second, which finds another, takes it."""
    found = {0: Numerics("no", False), 1: Numerics("bf16", True)}[group.rank]
    settling.measure = lambda *_: Measured(found, 0.01, {str(found): 100.0}, 8)  # type: ignore[assignment]
    wanted = {
        "data.target": "digits",
        "optim.steps": 200,  # enough for a trial also where bf16 is one of four candidates
        "optim.batch_size": 8,
        "data.groups": 2,
        "out": "none",
    }
    task = settling.settle(
        open_task(load_config(overrides={**wanted, "data.val_fraction": 0.0}), group), group
    )
    assert (task.config.loop.amp, task.config.loop.channels_last) == ("no", False)
    assert any(note.startswith("measured, ") for note in task.notes) == group.is_main
