"""Weights that people have: files of other programs, wrapped, prefixed, tied, damaged, hostile."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ppcore.classifiers import (
    Classifier,
    ClassifierSpec,
    build,
    load_classifier,
    load_weights,
    read_weights,
    save_classifier,
)
from ppcore.errors import UserError

Weights = dict[str, torch.Tensor]


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    net = build("small", 3, 1)
    net(torch.randn(4, 1, 16, 16))  # changes num_batches_tracked
    return net.eval()


def opens(net: nn.Module, file: Path, arch: str = "small") -> bool:
    """Whether `ARCH@file` is the network `net`."""
    images = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    opened = load_classifier(f"{arch}@{file}")
    return torch.equal(opened(images), Classifier(net, opened.spec)(images))


@pytest.mark.parametrize("arch", ["mnasnet0_5", "densenet121"])
def test_networks_whose_state_dict_has_a_version_open_again(arch: str, tmp_path: Path) -> None:
    net = build(arch, 3).eval()
    save_classifier(tmp_path, net, ClassifierSpec(arch, ("a", "b", "c"), 3, 32))
    loaded = load_classifier(str(tmp_path)).net.state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in net.state_dict().items())


class Tied(nn.Module):
    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, 4, 3)
        self.a = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.b = self.a
        self.c = nn.Linear(4, 4)
        self.c.weight = self.a[0].weight  # one tensor, three names
        self.fc = nn.Linear(4, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, C, H, W) -> (B, K)
        return self.fc(self.c(self.b(self.a(self.stem(x).mean((2, 3))))))


def test_a_layer_under_two_names_is_stored_once_and_opens_again(tmp_path: Path) -> None:
    net, other = Tied(3, 1).eval(), Tied(3, 1).eval()
    save_classifier(tmp_path, net, ClassifierSpec("tied:Tied", ("a", "b", "c"), 1, 8))
    stored = load_file(tmp_path / "model.safetensors")
    assert not any(name.startswith("b.") or name == "c.weight" for name in stored)
    load_weights(other, stored, "model.safetensors")
    assert all(torch.equal(t, other.state_dict()[name]) for name, t in net.state_dict().items())
    assert other.b is other.a
    renamed = {name.replace("a.", "b.", 1): t for name, t in stored.items()}  # others may keep another name
    fresh = Tied(3, 1)
    load_weights(fresh, renamed, "model.safetensors")
    assert torch.equal(fresh.c.weight, net.c.weight)


@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net.module."]
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_prefixes_of_wrappers(prefix: str, suffix: str, net: nn.Module, tmp_path: Path) -> None:
    weights = {prefix + name: tensor for name, tensor in net.state_dict().items()}
    file = tmp_path / f"w{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(weights, file)
    assert opens(net, file)


WRAPPERS: dict[str, Callable[[Weights, Weights], Any]] = {
    "accelerate": lambda good, _: {"model_state_dict": good, "epoch": 3},
    "lightning": lambda good, _: {
        "state_dict": {"criterion.weight": torch.ones(3), **{f"model.{n}": t for n, t in good.items()}},
        "hyper_parameters": {"lr": 0.1, "root": Path("data")},
    },
    "cifar": lambda good, _: {"net": {f"module.{n}": t for n, t in good.items()}, "acc": np.float64(93.1)},
    "timm": lambda good, other: {
        "state_dict": other,
        "state_dict_ema": good,
        "args": argparse.Namespace(lr=0.1, model="small", crop=None),
        "metric": np.float64(1),
    },
    "torchvision": lambda good, other: {
        "model": other,
        "model_ema": {"n_averaged": torch.tensor(5), **{f"module.{n}": t for n, t in good.items()}},
        "args": argparse.Namespace(lr=0.1),
    },
    "ema": lambda good, other: {"model": other, "ema": {"module": good, "updates": 7}},
    "compiled part": lambda good, _: {n.replace("blocks.", "blocks._orig_mod."): t for n, t in good.items()},
    "no averages": lambda good, _: {"model": good, "ema": {}, "model_ema": None},
    "old batch norm": lambda good, _: {n: t for n, t in good.items() if not n.endswith("tracked")},
}


@pytest.mark.parametrize("kind", WRAPPERS)
def test_checkpoints_of_training_programs(kind: str, net: nn.Module, tmp_path: Path) -> None:
    other = {name: torch.zeros_like(tensor) for name, tensor in net.state_dict().items()}
    torch.save(WRAPPERS[kind](net.state_dict(), other), tmp_path / "w.pth.tar")
    assert opens(net, tmp_path / "w.pth.tar")


def test_a_file_from_before_pytorch_1_6_with_options(net: nn.Module, tmp_path: Path) -> None:
    content = {"state_dict": net.state_dict(), "args": argparse.Namespace(lr=0.1)}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert opens(net, tmp_path / "w.pth")


def test_two_networks_in_one_file_are_refused(net: nn.Module, tmp_path: Path) -> None:
    weights = {
        f"{owner}.{name}": t for owner in ("student", "teacher") for name, t in net.state_dict().items()
    }
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"holds several networks that fit \(student\., teacher\.\)"):
        load_classifier(f"small@{tmp_path / 'w.pth'}")


def test_a_part_of_a_larger_network_is_not_taken_for_the_network(net: nn.Module) -> None:
    weights = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
    with pytest.raises(UserError, match="1 keys unexpected such as extra;"):
        load_weights(net, {**weights, "module.extra": torch.ones(1)}, "w.pth")
    del weights["module.fc.bias"]
    with pytest.raises(UserError, match=r"do not fit SmallNet: 1 keys missing such as fc\.bias; use"):
        load_weights(net, weights, "w.pth")


class Harmful:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (open, (str(self.mark), "w"))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_code_in_a_checkpoint_does_not_run(
    zipped: bool, inside: bool, net: nn.Module, tmp_path: Path
) -> None:
    bomb = Harmful(tmp_path / "harmed")
    content = {"state_dict": net.state_dict(), "args": bomb} if inside else {"w": bomb}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    if zipped and inside:
        read_weights(tmp_path / "w.pth")  # the weights are there; nothing else in the file is used
    else:
        with pytest.raises(UserError, match="cannot be read as weights") as caught:
            read_weights(tmp_path / "w.pth")
        assert str(caught.value).isprintable()
    assert not (tmp_path / "harmed").exists()


def damage_scripted(net: nn.Module, file: Path) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(str(file))


def damage_module(net: nn.Module, file: Path) -> None:
    torch.save(net, file)


def damage_cut(net: nn.Module, file: Path) -> None:
    torch.save(net.state_dict(), file)
    file.write_bytes(file.read_bytes()[:-1000])


def damage_text(net: nn.Module, file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\n")


def damage_empty(net: nn.Module, file: Path) -> None:
    file.touch()


def damage_loop(net: nn.Module, file: Path) -> None:
    content: dict[str, Any] = {}
    content["model"] = content
    torch.save(content, file)


@pytest.mark.parametrize(
    "damage", [damage_scripted, damage_module, damage_cut, damage_text, damage_empty, damage_loop]
)
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_read_is_one_sentence(
    damage: Callable[[nn.Module, Path], None], net: nn.Module, tmp_path: Path
) -> None:
    damage(net, tmp_path / "w.pth")
    with pytest.raises(UserError) as caught:
        read_weights(tmp_path / "w.pth")
    said = str(caught.value)
    assert said.isprintable()
    assert "cannot be read as weights" in said
    assert said.endswith("expected safetensors, or a file that torch.save(net.state_dict(), FILE) writes")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        load_classifier(f"small@{tmp_path}")
