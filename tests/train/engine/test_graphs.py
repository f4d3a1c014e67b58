"""What surrounds a recorded pass of the network; the recording itself is tested on a GPU (tests/gpu/test_training.py)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from ppcore.classifiers import ClassifierSpec, build
from pptrain.models import Graphs, Network


class Recorder:
    """Stands in for CUDA's: images of what it recorded and of what was replayed. It runs a function some times first, as CUDA's does."""

    def __init__(self) -> None:
        self.recorded: list[int] = []
        self.replayed: list[int] = []

    def make(
        self, module: torch.nn.Module, inputs: tuple[torch.Tensor], **options: Any
    ) -> Callable[[torch.Tensor], Any]:
        self.recorded.append(len(inputs[0]))
        assert list(module.parameters())
        for _ in range(3):
            module(*inputs)

        def replay(x: torch.Tensor) -> Any:
            self.replayed.append(len(x))
            return module(x)

        return replay


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", recorder.make)
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: nullcontext())  # there is no such device
    return recorder


def network() -> Network:
    torch.manual_seed(0)
    return Network(
        build("mobile", 3, 1), ClassifierSpec("mobile", ("a", "b", "c"), channels=1, resolution=32)
    )


def test_the_first_pass_of_a_batch_is_recorded_once_for_its_shape(recorder: Recorder) -> None:
    net, x = network().train(), torch.rand(4, 1, 32, 32)
    net.graphs = Graphs()
    for images in (x, x, torch.rand(6, 1, 32, 32)):
        net.graphs.next_batch()
        net(images)
        net(images)  # as it is
    assert recorder.recorded == [4, 6]
    assert recorder.replayed == [4, 4, 6]


def test_recording_leaves_running_statistics_alone(recorder: Recorder) -> None:
    plain, graphed, x = network().train(), network().train(), torch.rand(4, 1, 32, 32)
    graphed.graphs = Graphs()
    graphed.graphs.next_batch()
    assert torch.equal(plain(x), graphed(x))
    assert recorder.replayed == [4]
    for one, other in zip(plain.buffers(), graphed.buffers(), strict=True):
        assert torch.equal(one, other)


def test_evaluation_is_never_recorded(recorder: Recorder) -> None:
    net = network()
    net.graphs = Graphs()
    net.graphs.next_batch()
    net.eval()(torch.rand(2, 1, 32, 32))
    with torch.no_grad():
        net.train()(torch.rand(2, 1, 32, 32))
    assert recorder.recorded == []


def test_a_network_that_cannot_be_recorded_runs_without_graphs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr("pptrain.models.graphs.record", refuse)
    plain, graphed, x = network().train(), network().train(), torch.rand(4, 1, 32, 32)
    graphed.graphs = Graphs()
    for _ in range(2):
        graphed.graphs.next_batch()
        assert torch.equal(plain(x), graphed(x))
    assert len(caplog.records) == 1
    assert "stream is capturing" in caplog.text
