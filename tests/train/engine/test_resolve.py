"""Precision and CUDA graphs: chosen by a rule from the network and the device, and kept when an interrupted run resumes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from trainruns import Settings, run, run_until_killed, same_weights

from ppcore.classifiers import build
from ppcore.errors import UserError
from pptrain.config import load_config
from pptrain.engine.prepare import PreparedRun, prepare_run
from pptrain.engine.process_group import ProcessGroup
from pptrain.models import synchronise_batch_norm


def prepared(settings: Settings, device: str = "cpu", **more: object) -> PreparedRun:
    group = ProcessGroup("cpu")
    group.device = torch.device(device)  # nothing is computed on it
    return prepare_run(load_config(overrides={**settings, "out": "none", **more}), group)


@pytest.fixture
def bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pptrain.engine.resolve.has_bf16", lambda device: True)


@pytest.mark.usefixtures("bf16")
def test_bf16_unless_a_cpu_would_compute_grouped_convolutions_in_it(supervised: Settings) -> None:
    def amp(device: str, arch: str) -> str:
        return prepared(supervised, device, **{"model.arch": arch}).config.loop.amp

    assert [amp("cpu", arch) for arch in ("small", "mobile")] == ["bf16", "no"]
    assert [amp("cuda", arch) for arch in ("small", "mobile")] == ["bf16", "bf16"]


def test_float32_without_bf16_instructions(supervised: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pptrain.engine.resolve.has_bf16", lambda device: False)
    assert prepared(supervised).config.loop.amp == "no"
    assert prepared(supervised, **{"loop.amp": "bf16"}).config.loop.amp == "bf16"


def test_graphs_for_small_steps_of_known_networks_on_one_gpu(uda: Settings) -> None:
    def graphs(device: str = "cuda", **more: object) -> bool | None:
        return prepared(uda, device, **more).config.loop.graphs

    assert graphs()
    assert not graphs("cpu")
    # 8 labelled images and 2 views of 16: 40 images of 16 pixels; half a million pixels are 2,048 of them.
    assert graphs(**{"optim.batch_size": 408})
    assert not graphs(**{"optim.batch_size": 416})
    assert not graphs(**{"optim.accumulate": 2})
    assert not graphs(**{"loop.compile": True})
    assert not graphs(**{"loop.graphs": False})
    assert not graphs(**{"model.arch": "plainnet:build"})
    assert graphs(**{"model.arch": "plainnet:build", "loop.graphs": True})
    asked = prepared(uda, **{"loop.graphs": True})  # as the configuration of a run on a GPU says
    assert asked.config.loop.graphs is False
    assert any(note.startswith("loop.graphs is off: ") for note in asked.notes)


def test_an_interrupted_run_keeps_its_precision(
    supervised: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**supervised, "loop.checkpoint_every": 3}
    for name, able in (("whole", True), ("cut", True)):
        monkeypatch.setattr("pptrain.engine.resolve.has_bf16", lambda device, able=able: able)
        if name == "whole":
            run(settings, out=str(tmp_path / name))
        else:
            run_until_killed({**settings, "out": str(tmp_path / name)}, 7, monkeypatch)
    assert yaml.safe_load((tmp_path / "cut" / "config.yaml").read_text())["loop"]["amp"] == "bf16"
    monkeypatch.setattr("pptrain.engine.resolve.has_bf16", lambda device: False)  # another machine
    run(settings, out=str(tmp_path / "cut"))
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    assert not run(settings, out=str(tmp_path / "whole")).fresh
    other = run(settings, out=str(tmp_path / "other"))
    assert not same_weights(tmp_path / "whole", other.out)


@pytest.mark.parametrize("setting", [{"loop.amp": "fp16"}, {"model.sync_batch_norm": True}])
def test_what_needs_cuda_is_refused_without(setting: Settings, supervised: Settings, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{next(iter(setting))}.* needs .*CUDA device"):
        run({**supervised, **setting, "loop.device": "cpu"}, out=str(tmp_path / "r"))
    assert not (tmp_path / "r").exists()


def test_layers_that_sync_batch_norm_would_change_are_refused() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    names = list(net.state_dict())
    assert list(synchronise_batch_norm(net, "net").state_dict()) == names
    assert isinstance(net[1], nn.SyncBatchNorm)
    with pytest.raises(UserError, match="cannot replace its BatchNormAct2d layers"):
        synchronise_batch_norm(build("timm/mobilenetv3_small_050", 2), "timm/mobilenetv3_small_050")
