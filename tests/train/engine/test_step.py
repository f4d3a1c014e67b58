"""Inside a step: nothing waits for a device, and a compiled network computes the same."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from trainruns import Settings

from pptrain.config import load_config
from pptrain.engine.prepare import prepare_run
from pptrain.engine.process_group import ProcessGroup
from pptrain.engine.state import make_state
from pptrain.engine.step import StepRunner, open_batches
from pptrain.evaluation import LossAverages
from pptrain.models import Network, untracked


class Waits(TorchDispatchMode):
    """Counts the operations that hand a tensor's number to Python, for which a GPU would be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


STEPS: dict[str, Settings] = {
    "supervised": {"method.name": "supervised", "data.unlabeled": [], "method.options": {}},
    "clipped": {"optim.clip": 0.5, "optim.accumulate": 2, "optim.name": "sgd"},
    "split": {"method.batch_norm": "split"},
    **{
        name: {"method.name": name}
        for name in ("pi-model", "vat", "flexmatch", "freematch", "softmatch", "feature-consistency")
    },
}


@pytest.mark.parametrize("kind", list(STEPS))
def test_a_step_waits_for_no_number(kind: str, uda: Settings, tmp_path: Path) -> None:
    group = ProcessGroup("cpu")
    config = load_config(overrides={**uda, **STEPS[kind], "out": str(tmp_path)})
    prepared = prepare_run(config, group)
    runner = StepRunner(prepared, make_state(prepared, group.device), group, LossAverages(group.device))
    with open_batches(prepared, 0) as batches:
        runner.run(batches)
        with Waits() as waits:
            runner.run(batches)
            assert waits.seen == 0
            next(runner.state.network.parameters()).sum().item()
            assert waits.seen == 1


def test_a_compiled_network_computes_what_it_was_written_to(uda: Settings) -> None:
    """Through batch norm's ways and the features: none may be taken for another's compiled form."""
    torch.compiler.reset()
    spec = prepare_run(load_config(overrides={**uda, "out": "none"}), ProcessGroup("cpu")).spec
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(3))
    net(torch.rand(2, 1, 16, 16))
    written = Network(net, spec)
    compiled = copy.deepcopy(written)
    compiled.net.compile(backend="eager")
    x = torch.rand(6, 1, 16, 16)

    def by_itself(model: Network) -> Tensor:
        with untracked(model):
            return model(x)

    def features(model: Network) -> Tensor:
        return torch.cat(model.features(x), 1)

    ways = (lambda model: model(x), by_itself, features)
    for way in (*ways, *ways[::-1]):
        assert torch.equal(way(written), way(compiled))
        assert all(map(torch.equal, written.state_dict().values(), compiled.state_dict().values()))
