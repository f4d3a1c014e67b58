"""Condition prediction: weight 0 is plain fine-tuning, gradients, batch norm's ways, and that it can tell conditions apart."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from toyshards import CLASSES, ShardWriter

from ppcore.classifiers import ClassifierSpec
from ppcore.errors import UserError
from ppcore.targets import load_target
from pptrain.config import load_config
from pptrain.data import ConditionTable
from pptrain.engine import train
from pptrain.engine.result import Result
from pptrain.methods import Batch, Context, SourceSide, make_method
from pptrain.methods.base import STRONG, WEAK
from pptrain.models.network import Network

K, K_SOURCE, N = 3, 5, 10
Settings = dict[str, Any]


def network(norm: bool = True) -> Network:
    torch.manual_seed(0)
    middle = nn.BatchNorm2d(6) if norm else nn.Identity()
    layers = [
        nn.Conv2d(1, 6, 3, padding=1),
        middle,
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, K),
    ]
    return Network(nn.Sequential(*layers), ClassifierSpec("toy", tuple("abc"), 1, 8)).train()


def table() -> ConditionTable:
    soft = torch.rand(4, K_SOURCE, generator=torch.Generator().manual_seed(3)).softmax(1)
    return ConditionTable(tuple("vwxyz"), soft, torch.arange(N) % 4, {"first": 0, "second": 2})


def batch() -> Batch:
    g = torch.Generator().manual_seed(1)
    views = {view: torch.rand(N, 1, 8, 8, generator=g) for view in (WEAK, STRONG)}
    return Batch(
        torch.rand(6, 1, 8, 8, generator=g), torch.arange(6) % K, views, torch.arange(N), torch.arange(6)
    )


def ready(model: Network, batch_norm: str = "joint", **options: object) -> Any:
    method = make_method("condition", options)
    torch.manual_seed(7)
    labeled = torch.rand(6, K_SOURCE).softmax(1)
    source = SourceSide(nn.Linear(24, K_SOURCE), table(), labeled)
    method.setup(Context(K, model, batch_norm, unlabeled_samples=N, source=source))
    return method


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_the_loss_is_the_one_written_down() -> None:
    """Against numpy: CE of the labels plus the weight times CE of the conditions, from one joint pass."""
    model = network()
    method = ready(model, lambda_u=0.7, temperature=2.0)
    found = method.step(model, batch(), 0.0)
    assert model.source_head is not None
    features, z = copy.deepcopy(model).features(torch.cat([batch().x, batch().unlabeled[STRONG]]))
    s = model.source_head(features).detach().numpy().astype(np.float64)[6:]
    z = z.detach().numpy().astype(np.float64)[:6]

    def log_softmax(x: np.ndarray) -> np.ndarray:
        x = x - x.max(1, keepdims=True)
        return x - np.log(np.exp(x).sum(1, keepdims=True))

    c = np.sqrt(table().soft.numpy().astype(np.float64)[np.arange(N) % 4])
    c /= c.sum(1, keepdims=True)
    supervised = -log_softmax(z)[np.arange(6), np.arange(6) % K].mean()
    predicted = -(c * log_softmax(s)).sum(1).mean()
    assert float(found["loss"].detach()) == pytest.approx(supervised + 0.7 * predicted, rel=1e-5)


@pytest.mark.parametrize("batch_norm", ["joint", "split"])
def test_the_gradient_is_autograds_of_the_same_sum(batch_norm: str) -> None:
    model = network(norm=False)  # without batch norm both ways are one function
    method = ready(model, batch_norm, lambda_u=0.5)
    found = gradients(model, method.step(model, batch(), 0.0)["loss"])
    z = model(batch().x)
    _, s = model.with_source(batch().unlabeled[STRONG])
    soft = table().soft[torch.arange(N) % 4]
    expected = gradients(
        model, F.cross_entropy(z, batch().y) + 0.5 * -(soft * F.log_softmax(s, 1)).sum(1).mean()
    )
    assert found.keys() == expected.keys()
    for name in expected:
        assert torch.allclose(found[name], expected[name], rtol=1e-4, atol=1e-6), name


def test_prototypes_add_the_weighted_cross_entropy_of_the_taught_classes() -> None:
    """A row of zeros, as synth samples have, adds nothing; without taught classes the loss is the plain one."""
    taught = torch.rand(N, K, generator=torch.Generator().manual_seed(5)).softmax(1)
    taught[6:] = 0
    model = network()
    method = ready(model, prototypes=0.3)
    plain = method.step(copy.deepcopy(model), batch(), 0.0)["loss"]
    assert torch.equal(plain, ready(model).step(copy.deepcopy(model), batch(), 0.0)["loss"])
    method.context.source = replace(method.context.source, taught=taught)
    _, z = copy.deepcopy(model).features(torch.cat([batch().x, batch().unlabeled[STRONG]]))
    wanted = -(taught * z[6:].log_softmax(1)).sum(1).mean()
    assert torch.allclose(method.step(model, batch(), 0.0)["loss"], plain + 0.3 * wanted, atol=1e-6)


def test_permuted_conditions_make_the_loss_worse() -> None:
    """Trained on the conditions, the source head tells them apart."""
    model = network()
    method = ready(model)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    soft = F.one_hot(torch.arange(4), K_SOURCE).float()
    method.context.source = SourceSide(
        model.source_head, ConditionTable(tuple("vwxyz"), soft, torch.arange(N) % 4, {}), None
    )
    for _ in range(150):
        optimizer.zero_grad()
        method.step(model, batch(), 0.0)["loss"].backward()
        optimizer.step()
    right = float(method.step(model, batch(), 0.0)["loss_unlabeled"].detach())
    moved = ConditionTable(tuple("vwxyz"), soft, (torch.arange(N) + 1) % 4, {})
    method.context.source = SourceSide(model.source_head, moved, None)
    wrong = float(method.step(model, batch(), 0.0)["loss_unlabeled"].detach())
    assert right < 0.5
    assert wrong > right + 1.0


@pytest.mark.parametrize(
    "options", [{"plus": 0.1}, {"labelled_soft": 0.5}, {"view": "weak"}, {"temperature": 0.5}]
)
@pytest.mark.parametrize("batch_norm", ["joint", "split"])
def test_every_option_changes_the_gradient_and_stays_finite(options: Settings, batch_norm: str) -> None:
    plain, other = network(), network()
    first = gradients(plain, ready(plain, batch_norm).step(plain, batch(), 0.0)["loss"])
    second = gradients(other, ready(other, batch_norm, **options).step(other, batch(), 0.0)["loss"])
    assert all(torch.isfinite(g).all() for g in second.values())
    assert any(not torch.allclose(first[name], second[name]) for name in first)


# ---- whole runs


def go(settings: Settings, **more: object) -> Result:
    return train(load_config(overrides={**settings, **more}), quiet=True)


def weights(result: Result) -> dict[str, Tensor]:
    return load_file(result.out / "model" / "model.safetensors")


@pytest.fixture
def condition(write_shards: ShardWriter, target_folder: Path, tiny: Settings, tmp_path: Path) -> Settings:
    train_images = load_target(str(target_folder)).train.ids
    pseudo = write_shards("pseudo", [20, 20, 20], kind="pseudo", target_ids=train_images[:8])
    return {
        **tiny,
        "data.target": str(target_folder),
        "data.labels_per_class": 3,
        "data.unlabeled": [str(pseudo)],
        "method.name": "condition",
        "out": str(tmp_path / "condition"),
    }


def test_weight_0_is_plain_fine_tuning_to_the_bit(condition: Settings, tmp_path: Path) -> None:
    plain = {k: v for k, v in condition.items() if k not in ("method.name", "data.unlabeled")}
    plain |= {"data.label_seed": 0, "out": str(tmp_path / "plain")}
    zero = go(condition, **{"method.options": {"lambda_u": 0.0}, "data.label_seed": 0})
    other = go(condition, **{"data.label_seed": 0, "out": str(tmp_path / "other")})
    expected = weights(go(plain))
    assert all(torch.equal(weights(zero)[name], expected[name]) for name in expected)
    assert any(not torch.equal(weights(other)[name], expected[name]) for name in expected)


def test_the_source_head_never_reaches_the_saved_classifier(condition: Settings, tmp_path: Path) -> None:
    plain = {k: v for k, v in condition.items() if k not in ("method.name", "data.unlabeled")}
    expected = weights(go(plain, out=str(tmp_path / "plain")))
    assert {n: t.shape for n, t in weights(go(condition)).items()} == {
        n: t.shape for n, t in expected.items()
    }


def test_streamed_shards_bring_the_same_conditions(condition: Settings, tmp_path: Path) -> None:
    """A streamed sample's position finds its own condition: predicting them gets better with training."""
    result = go(condition, **{"data.resident_mb": 0, "optim.steps": 60, "out": str(tmp_path / "streamed")})
    rows = (result.out / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("loss_unlabeled")
    values = [float(row.split(",")[column]) for row in rows[1:]]
    assert values[-1] < values[0]


def test_hard_labels_from_scratch(
    condition: Settings, write_shards: ShardWriter, capsys: pytest.CaptureFixture[str]
) -> None:
    synth = write_shards("synth", [16, 16, 16])
    settings = {**condition, "data.unlabeled": [str(synth)]}
    result = train(load_config(overrides=settings))
    assert result.accuracy is not None
    assert f"source head: 0 of {len(CLASSES)} classes start from the initial model" in capsys.readouterr().out


def test_the_head_of_pre_training_is_taken_over(
    condition: Settings,
    write_shards: ShardWriter,
    tiny: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    synth = write_shards("synth", [16, 16, 16])
    pre = go({**tiny, "data.shards": [str(synth)], "out": str(tmp_path / "pre")})
    train(load_config(overrides={**condition, "model.init": str(pre.out)}))
    assert (
        f"source head: {len(CLASSES)} of {len(CLASSES)} classes start from the initial model"
        in capsys.readouterr().out
    )


def test_real_images_have_no_condition(condition: Settings, target_folder: Path) -> None:
    with pytest.raises(UserError, match="predicts the conditions of generated samples"):
        go(condition, **{"data.unlabeled": [f"target:{target_folder}"]})


def test_labelled_soft_needs_every_labelled_image(condition: Settings) -> None:
    with pytest.raises(UserError, match="labelled_soft needs the soft label of every labelled image"):
        go(condition, **{"method.options": {"labelled_soft": 0.5}})
