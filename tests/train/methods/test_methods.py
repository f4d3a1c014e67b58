"""Every method as a whole: its step, its state, its batch norm."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from ppcore.classifiers import Classifier, ClassifierSpec
from ppcore.errors import UserError
from pptrain.data import ConditionTable
from pptrain.methods import METHODS, SemiSupervised, SourceSide, losses, make_method
from pptrain.methods.base import OTHER, STRONG, WEAK, Batch, Context
from pptrain.methods.pseudo_labels import FlexMatch
from pptrain.methods.supervised import cutmix, mixup
from pptrain.models import Network, Teacher, untracked

K = 4
SEMI = [name for name, method in METHODS.items() if issubclass(method, SemiSupervised)]
SPEC = ClassifierSpec("toy", tuple("abcd"), 1, 8)


def toy(norm: bool = True) -> Network:
    torch.manual_seed(0)
    middle = nn.BatchNorm2d(6) if norm else nn.Identity()
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        middle,
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, K),
    )
    return Network(net, SPEC).train()


def batch(labeled: int = 6, unlabeled: int = 10) -> Batch:
    g = torch.Generator().manual_seed(1)
    x = torch.rand(labeled, 1, 8, 8, generator=g)
    views = {view: torch.rand(unlabeled, 1, 8, 8, generator=g) for view in (WEAK, STRONG, OTHER)}
    return Batch(x, torch.arange(labeled) % K, views, torch.arange(unlabeled))


def ready(name: str, model: nn.Module, batch_norm: str = "joint", **options: object) -> SemiSupervised:
    method = make_method(name, options)
    teacher = copy.deepcopy(model).eval()
    conditions = ConditionTable(tuple("xyz"), torch.eye(3), torch.arange(10) % 3, {})
    source = SourceSide(nn.Linear(24, 3), conditions, None)
    context = Context(K, model, batch_norm, 10, teacher=lambda x: teacher(x).detach(), source=source)
    method.setup(context)
    return method  # type: ignore[return-value]


class Largest(TorchDispatchMode):
    """The largest number of elements that an operation returned anew."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and not any(made is arg for arg in args):
            self.elements = max(self.elements, made.numel())
        return made


def gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("batch_norm", ["joint", "split"])
def test_every_method_takes_steps(name: str, batch_norm: str) -> None:
    model = toy()
    method = ready(name, model, batch_norm)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for step in range(4):
        torch.manual_seed(step)
        parts = method.step(model, batch(), 0.5)
        assert all(torch.isfinite(value) and value.ndim == 0 for value in parts.values())
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        method.after_step(model)
    assert all(m.training and m.track_running_stats for m in model.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize("name", SEMI)
def test_lambda_zero_is_supervised_training(name: str) -> None:
    off: dict[str, object] = {"lambda_u": 0.0}
    off |= {"entropy": 0.0} if name == "vat" else {}
    off |= {"lambda_e": 0.0} if name == "freematch" else {}
    model, plain = toy(norm=False), toy(norm=False)
    ready(name, model, **off).step(model, batch(), 0.5)["loss"].backward()
    ready("supervised", plain).step(plain, batch(), 0.5)["loss"].backward()
    for a, b in zip(gradients(model.net), gradients(plain.net), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", ["uda", "fixmatch", "pseudo-label"])
def test_threshold_above_one_is_supervised_training(name: str) -> None:
    model, plain = toy(norm=False), toy(norm=False)
    ready(name, model, threshold=1.1).step(model, batch(), 0.5)["loss"].backward()
    ready("supervised", plain).step(plain, batch(), 0.5)["loss"].backward()
    for a, b in zip(gradients(model.net), gradients(plain.net), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", SEMI)
def test_empty_unlabeled_batch_is_supervised_training(name: str) -> None:
    model, plain = toy(norm=False), toy(norm=False)
    parts = ready(name, model).step(model, batch(unlabeled=0), 0.5)
    assert torch.isfinite(parts["loss"])
    parts["loss"].backward()
    ready("supervised", plain).step(plain, batch(), 0.5)["loss"].backward()
    for a, b in zip(gradients(model.net), gradients(plain.net), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", ["uda", "fixmatch", "softmatch", "freematch", "soft-pseudo-label"])
@pytest.mark.parametrize("batch_norm", ["joint", "split"])
def test_no_gradient_through_the_weak_view(name: str, batch_norm: str) -> None:
    model = toy(norm=False)
    given = batch()
    for view in (WEAK, STRONG):
        given.unlabeled[view].requires_grad_(True)
    options = {"threshold": 0.0} if name in ("uda", "fixmatch") else {}
    ready(name, model, batch_norm, **options).step(model, given, 0.5)["loss"].backward()
    weak = given.unlabeled[WEAK].grad
    assert weak is None or weak.abs().sum() == 0
    assert given.unlabeled[STRONG].grad.abs().sum() > 0


def test_mean_teacher_teaches_the_student_and_not_itself() -> None:
    """The known wrong copy compares the teacher with itself: no gradient from the unlabelled term."""
    model, plain = toy(), toy()
    parts = ready("mean-teacher", model).step(model, batch(), 1.0)
    assert parts["loss_unlabeled"] > 0
    parts["loss"].backward()
    ready("supervised", plain).step(plain, batch(), 1.0)["loss"].backward()
    assert any(not torch.allclose(a, b) for a, b in zip(gradients(model), gradients(plain), strict=True))


def test_vat_direction_raises_the_divergence() -> None:
    model = toy()
    method = ready("vat", model, eps=1.0)
    torch.manual_seed(0)
    adversarial = method.step(model, batch(), 0.5)["loss_unlabeled"].item()
    from pptrain.methods.consistency import _unit

    x = batch().unlabeled[WEAK]
    with torch.no_grad(), untracked(model):
        log_p = model(x).log_softmax(1)
        noise = [
            losses.batch_mean(losses.divergence(log_p, model(x + 0.5 * _unit(torch.randn_like(x))))).item()
            for _ in range(8)
        ]
    assert adversarial > 3 * max(noise)


@pytest.mark.parametrize("name", ["freematch", "softmatch", "flexmatch", "mean-teacher"])
def test_state_survives_a_checkpoint(name: str) -> None:
    model = toy()
    method = ready(name, model)
    for _ in range(3):
        method.step(model, batch(), 0.5)
        method.after_step(model)
    other = ready(name, toy())
    saved = {key: value.clone() for key, value in method.state_dict().items()}
    other.load_state_dict(saved)
    a, b = method.step(model, batch(), 0.5), other.step(model, batch(), 0.5)
    assert a["loss"].item() == b["loss"].item()
    for key, value in method.state_dict().items():
        assert torch.equal(value, other.state_dict()[key])


def running(model: nn.Module) -> Tensor:
    return next(m.running_mean.clone() for m in model.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize("name", SEMI)
def test_batch_norm_modes(name: str) -> None:
    """split: running statistics see labelled images only; joint sees all."""
    labeled_only = toy()
    labeled_only(batch().x)
    after = {}
    for mode in ("joint", "split"):
        model = toy()
        ready(name, model, mode).step(model, batch(), 0.5)
        after[mode] = running(model)
    assert torch.allclose(after["split"], running(labeled_only))
    assert not torch.allclose(after["joint"], running(labeled_only))


def test_untracked_passes_normalise_by_the_batch() -> None:
    model, x = toy(), batch().unlabeled[WEAK]
    before = running(model)
    with untracked(model):
        by_batch = model(x)
    assert torch.equal(running(model), before)
    assert torch.allclose(by_batch, model(x))


def test_flexmatch_counts_the_last_confident_prediction_of_every_image() -> None:
    """Against counting the whole set again, in batches that hold some images twice."""
    method = ready("flexmatch", toy(), threshold=0.5)
    assert isinstance(method, FlexMatch)
    last = [-1] * 10
    for step in range(20):
        g = torch.Generator().manual_seed(step)
        z, index = torch.randn(8, K, generator=g) * 2, torch.randint(0, 10, (8,), generator=g)
        limits = method.limit(z, replace(batch(), index=index))
        before = list(last)
        for p, i in zip(z.softmax(1), index.tolist(), strict=True):
            last[i] = int(p.argmax()) if p.max() >= 0.5 else before[i]
        counts = [last.count(k) for k in range(-1, K)]
        assert method.state["counts"].tolist() == counts
        wanted = losses.flexmatch_thresholds(torch.tensor(counts[1:]), torch.tensor(counts[0]), 0.5)
        assert torch.equal(limits, wanted)


def test_a_step_of_flexmatch_does_not_read_its_whole_set() -> None:
    method = ready("flexmatch", toy())
    method.context.unlabeled_samples = 100_000
    method.setup(method.context)
    with Largest() as largest:
        method.limit(torch.randn(10, K), batch())
    assert largest.elements < 1000


def test_a_teacher_sees_the_whole_view() -> None:
    """Also a teacher that enlarges and crops the images it classifies, as published ones do."""
    net, x = toy().net.eval(), torch.rand(2, 1, 16, 16)
    x[:, :, 1:-1, 1:-1] = 0.5  # only the border differs
    for resolution, mode in ((16, "bicubic"), (12, "bicubic"), (12, "bilinear")):
        spec = replace(SPEC, resolution=resolution, resize=resolution * 8 // 7, interpolation=mode)
        seen = x if resolution == 16 else F.interpolate(x, (12, 12), mode=mode, antialias=True)
        with torch.no_grad():
            wanted = net((seen.clamp(0, 1) - 0.5) / 0.5)
            torch.testing.assert_close(Teacher(Classifier(net, spec))(x), wanted)


def test_mixtures_keep_probabilities() -> None:
    x, y = torch.rand(8, 1, 6, 6), torch.arange(8) % K
    for mix in (mixup, cutmix):
        torch.manual_seed(3)
        mixed, target = mix(x, y, 1.0, K)
        assert mixed.shape == x.shape
        torch.testing.assert_close(target.sum(1), torch.ones(8))
        assert (target > 0).sum(1).max() == 2


def test_option_errors() -> None:
    with pytest.raises(UserError, match="did you mean 'uda'"):
        make_method("udaa", {})
    with pytest.raises(UserError, match="did you mean 'threshold'"):
        make_method("uda", {"treshold": 0.5})
    with pytest.raises(UserError, match="expected a value of type float"):
        make_method("uda", {"threshold": "high"})
    with pytest.raises(UserError, match="temperature"):
        make_method("uda", {"temperature": 0})
