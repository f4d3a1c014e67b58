"""Networks with other heads than one linear layer: pre-trained, given new classes, and refused before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toyshards import ShardWriter
from trainruns import Settings, bad, run

from ppcore.classifiers import head_names, load_classifier
from ppcore.trust import Trust

NETWORKS = "benchmarks.zoo_networks"


@pytest.fixture
def pair(
    tiny: Settings, target_folder: Path, write_shards: ShardWriter, tmp_path: Path
) -> tuple[Settings, Settings]:
    """(settings of pre-training on four classes, of fine-tuning on four of which two have other names)."""
    names = ["a", "b", "x", "y"]
    plan = {"source": {"name": "toy", "class_names": names}}
    pre = {**tiny, "optim.steps": 2, "optim.batch_size": 4, "out": str(tmp_path / "pre"), "data.channels": 3}
    pre |= {"data.resolution": 32, "data.shards": [str(write_shards("synth", [8, 8], plan=plan))]}
    fine = {k: v for k, v in pre.items() if k != "data.shards"}
    fine |= {"data.target": str(target_folder), "model.init": pre["out"], "out": str(tmp_path / "fine")}
    pseudo = write_shards("pseudo", [8, 8], kind="pseudo", plan=plan)
    return pre, {**fine, "method.name": "condition", "data.unlabeled": [str(pseudo)]}


@pytest.mark.parametrize(
    "arch",
    [
        "squeezenet1_1",
        "timm/levit_128s",
        f"{NETWORKS}:TwoHeads",
        f"{NETWORKS}:Lazy",
    ],
)
@pytest.mark.parametrize("method", ["condition", "feature-consistency"])
def test_pre_trained_networks_get_new_classes(
    arch: str, method: str, pair: tuple[Settings, Settings]
) -> None:
    pre, fine = pair
    side = 224 if arch.startswith("timm/") else 32
    first = run(pre, **{"model.arch": arch, "data.resolution": side})
    last = run(fine, **{"model.arch": arch, "data.resolution": side, "method.name": method})
    assert last.accuracy is not None
    before, after = (load_classifier(str(r.out), trust=Trust(True)) for r in (first, last))
    names = head_names(before.net)
    assert names == head_names(after.net)
    assert after.spec.class_names == ("a", "b", "c", "d")


def test_everything_but_the_head_starts_from_the_initial_model(pair: tuple[Settings, Settings]) -> None:
    """Without a step of its own, a run saves what it started from; names of classes decide, not their number."""
    pre, fine = pair
    arch = "timm/levit_128s"
    same = {"model.arch": arch, "data.resolution": 224}
    run(pre, **same)
    run(fine, **same, **{"optim.lr": 1e-30, "optim.steps": 1})
    before, after = (load_file(Path(s["out"]) / "model/model.safetensors") for s in (pre, fine))
    moved = {name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    statistics = {name for name in moved if f"{name}.running_mean" in before}
    assert moved - statistics == {"head.linear", "head_dist.linear"}


def test_what_cannot_be_supported_is_refused_before_anything_is_written(
    pair: tuple[Settings, Settings], tmp_path: Path
) -> None:
    pre, fine = pair
    out = tmp_path / "refused"
    scratch = {k: v for k, v in fine.items() if k not in ("model.init", "data.unlabeled", "method.name")}
    arch = {name: {"model.arch": f"{NETWORKS}:{name}"} for name in ("Tuple", "TupleInTraining", "Prototypes")}
    bad({**pre, **arch["Tuple"]}, "gives tuple for 2 images, expected", out)
    bad({**pre, **arch["TupleInTraining"]}, "gives tuple for 2 images in training, expected", out)
    bad({**pre, **arch["Prototypes"]}, "no linear layer to serve as classification head", out)
    bad({**pre, "model.arch": f"{NETWORKS}:Gated"}, "layer gate alone", out)
    bad({**fine, "model.init": "", **arch["Prototypes"]}, "no linear layer", out)
    state = "has a value of type dict under 1._extra_state, expected tensors alone"
    bad({**pre, "model.arch": "oddnet:noted"}, state, out)
    bad({**fine, "model.init": "", "model.arch": "oddnet:noted"}, state, out)
    bad({**pre, "model.arch": "inception_v3"}, "does not take 3x32x32 images.*designed for 299 pixels", out)
    run(scratch, **arch["Prototypes"])  # without features nor new classes, a head need not be known
