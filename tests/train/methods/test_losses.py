"""Losses against formulas written down a second time in numpy, and the properties each must have."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from pptrain.methods import losses

N, K = 24, 5


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def logits(seed: int, scale: float = 2.0) -> Tensor:
    return (
        torch.randn(N, K, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float() * scale
    )


Z_S, Z_W = logits(1), logits(2)
S, W = Z_S.double().numpy(), Z_W.double().numpy()


def numpy_uda(s: np.ndarray, w: np.ndarray, tau: float, temperature: float) -> float:
    """Equation by equation: mask, sharpened target, KL, mean over all N."""
    total = 0.0
    for z_s, z_w in zip(s, w, strict=True):
        if softmax(z_w[None])[0].max() > tau:
            target, student = softmax(z_w[None] / temperature)[0], softmax(z_s[None])[0]
            total += float(np.sum(target * (np.log(target) - np.log(student))))
    return total / len(s)


TAU, T = 0.6, 0.4


def test_uda_is_the_published_formula() -> None:
    loss, kept = losses.uda(Z_S, Z_W, threshold=TAU, temperature=T)
    assert loss.item() == pytest.approx(numpy_uda(S, W, TAU, T), rel=1e-5)
    share = np.mean(softmax(W).max(1) > TAU)
    assert kept.item() == pytest.approx(share)
    assert 0 < share < 1  # or the comparison says nothing


def _kl(target: np.ndarray, student: np.ndarray) -> np.ndarray:
    return np.sum(target * (np.log(target) - np.log(student)), axis=1)


WRONG_UDA: dict[str, Callable[[], float]] = {
    "temperature applied to probabilities taken for logits": lambda: np.mean(
        (softmax(W).max(1) > TAU) * _kl(softmax(softmax(W) / T), softmax(S))
    ),
    "temperature left out": lambda: np.mean((softmax(W).max(1) > TAU) * _kl(softmax(W), softmax(S))),
    "temperature on the student as well": lambda: np.mean(
        (softmax(W).max(1) > TAU) * _kl(softmax(W / T), softmax(S / T))
    ),
    "mean over the kept images only": lambda: (
        np.sum((softmax(W).max(1) > TAU) * _kl(softmax(W / T), softmax(S))) / np.sum(softmax(W).max(1) > TAU)
    ),
    "mask on the sharpened probabilities": lambda: np.mean(
        (softmax(W / T).max(1) > TAU) * _kl(softmax(W / T), softmax(S))
    ),
    "mask inverted": lambda: np.mean((softmax(W).max(1) <= TAU) * _kl(softmax(W / T), softmax(S))),
    "KL the other way round": lambda: np.mean((softmax(W).max(1) > TAU) * _kl(softmax(S), softmax(W / T))),
    "mean over the classes as well": lambda: (
        np.mean((softmax(W).max(1) > TAU) * _kl(softmax(W / T), softmax(S))) / K
    ),
    "cross-entropy in place of KL": lambda: np.mean(
        (softmax(W).max(1) > TAU) * -np.sum(softmax(W / T) * np.log(softmax(S)), axis=1)
    ),
}


@pytest.mark.parametrize("name", WRONG_UDA)
def test_known_wrong_copies_of_uda_would_be_caught(name: str) -> None:
    right = numpy_uda(S, W, TAU, T)
    assert abs(float(WRONG_UDA[name]()) - right) > 1e-2 * abs(right)


def test_uda_gradient_is_that_of_the_formula_and_reaches_the_strong_view_only() -> None:
    strong, weak = Z_S.clone().requires_grad_(True), Z_W.clone().requires_grad_(True)
    losses.uda(strong, weak, threshold=TAU, temperature=T)[0].backward()
    assert weak.grad is None
    # d KL(q || softmax(z)) / dz = softmax(z) - q for kept rows, divided by N
    mask = (softmax(W).max(1) > TAU)[:, None]
    expected = mask * (softmax(S) - softmax(W / T)) / N
    np.testing.assert_allclose(strong.grad.numpy(), expected, atol=1e-6)


def test_tsa_looks_at_the_correct_class_and_divides_by_the_survivors() -> None:
    y = torch.arange(N) % K
    p = softmax(S)[np.arange(N), y.numpy()]
    keep = p <= 0.3
    assert 0 < keep.sum() < N
    expected = np.sum(-np.log(p) * keep) / keep.sum()
    assert losses.tsa_cross_entropy(Z_S, y, 0.3).item() == pytest.approx(expected, rel=1e-5)
    by_max = softmax(S).max(1) <= 0.3  # the known wrong copy
    assert (by_max != keep).any()
    for schedule in ("linear", "log", "exp"):
        ends = [losses.tsa_threshold(p, K, schedule) for p in (0.0, 0.5, 1.0)]
        assert ends[0] < ends[1] < ends[2] <= 1.0
    assert losses.tsa_threshold(0.0, K, "linear") == pytest.approx(1 / K)


def test_fixmatch_formula() -> None:
    p = softmax(W)
    nll = -np.log(softmax(S)[np.arange(N), p.argmax(1)])
    expected = np.mean((p.max(1) >= TAU) * nll)
    assert losses.fixmatch(Z_S, Z_W, TAU)[0].item() == pytest.approx(expected, rel=1e-5)
    limits = np.linspace(0.3, 0.9, K)
    expected = np.mean((p.max(1) >= limits[p.argmax(1)]) * nll)
    got = losses.fixmatch(Z_S, Z_W, torch.tensor(limits).float())[0].item()
    assert got == pytest.approx(expected, rel=1e-5)


def test_flexmatch_thresholds() -> None:
    counts, unused = np.array([10, 4, 0, 2, 8]), 6
    beta = counts / max(counts.max(), unused)
    expected = 0.95 * beta / (2 - beta)
    got = losses.flexmatch_thresholds(torch.tensor(counts), torch.tensor(unused), 0.95)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)
    got = losses.flexmatch_thresholds(
        torch.tensor(counts), torch.tensor(1000), 0.95
    )  # warm-up: thresholds near 0
    assert got.max() < 0.01


def test_freematch_formulas() -> None:
    mean = np.array([0.1, 0.4, 0.2, 0.2, 0.1])
    hist = np.array([0.2, 0.3, 0.1, 0.0, 0.4])
    got = losses.freematch_thresholds(torch.tensor(0.7), torch.tensor(mean).float())
    np.testing.assert_allclose(got.numpy(), 0.7 * mean / mean.max(), rtol=1e-6)
    keep = softmax(W).max(1) >= 0.5
    p = softmax(S)[keep]
    bar = p.mean(0)
    bar_hist = np.bincount(p.argmax(1), minlength=K) / keep.sum()
    expected_ratio = np.divide(mean, hist, out=np.zeros(K), where=hist > 0)
    actual_ratio = np.divide(bar, bar_hist, out=np.zeros(K), where=bar_hist > 0)
    a, b = expected_ratio / expected_ratio.sum(), actual_ratio / actual_ratio.sum()
    expected = np.sum(a * np.log(b + 1e-12))
    got_loss = losses.freematch_fairness(
        Z_S, torch.tensor(keep), torch.tensor(mean).float(), torch.tensor(hist).float()
    )
    assert got_loss.item() == pytest.approx(expected, rel=1e-4)
    nothing = losses.freematch_fairness(
        Z_S, torch.zeros(N, dtype=torch.bool), torch.tensor(mean).float(), torch.tensor(hist).float()
    )
    assert nothing.item() == 0.0


def test_softmatch_formulas() -> None:
    class_mean = np.array([0.1, 0.4, 0.2, 0.2, 0.1])
    p = softmax(W)
    aligned = p / class_mean / K
    aligned /= aligned.sum(1, keepdims=True)
    got = losses.uniform_alignment(torch.tensor(p).float(), torch.tensor(class_mean).float())
    np.testing.assert_allclose(got.numpy(), aligned, rtol=1e-5)
    best, mean, variance = aligned.max(1), 0.7, 0.04
    weights = np.where(best >= mean, 1.0, np.exp(-((best - mean) ** 2) / (2 * variance / 2**2)))
    got = losses.softmatch_weights(
        torch.tensor(best).float(), torch.tensor(mean), torch.tensor(variance), 2.0
    )
    np.testing.assert_allclose(got.numpy(), weights, rtol=1e-5)
    nll = -np.log(softmax(S)[np.arange(N), p.argmax(1)])  # labels from the unaligned probabilities
    got = losses.softmatch(Z_S, Z_W, torch.tensor(weights).float())
    assert got.item() == pytest.approx(np.mean(weights * nll), rel=1e-5)
    assert (p.argmax(1) != aligned.argmax(1)).any()  # or the last line says nothing


def test_simple_formulas() -> None:
    p_s, p_w = softmax(S), softmax(W)
    y = np.arange(N) % K
    checks = {
        "entropy": (losses.entropy_minimization(Z_W), np.mean(-np.sum(p_w * np.log(p_w), 1))),
        "pseudo": (losses.pseudo_label(Z_W, TAU), np.mean((p_w.max(1) >= TAU) * -np.log(p_w.max(1)))),
        "soft": (losses.soft_pseudo_label(Z_S, Z_W), np.mean(-np.sum(p_w * np.log(p_s), 1))),
        "mse": (losses.consistency_mse(Z_S, Z_W), np.mean((p_s - p_w) ** 2)),
        "ce": (losses.cross_entropy(Z_S, torch.tensor(y)), np.mean(-np.log(p_s[np.arange(N), y]))),
        "logits": (losses.logit_matching(Z_S, Z_W), np.mean((S - W) ** 2)),
        "distil": (losses.soft_target(Z_S, Z_W, 4.0), 16 * np.mean(_kl(softmax(W / 4), softmax(S / 4)))),
    }
    for name, (got, expected) in checks.items():
        assert got.item() == pytest.approx(expected, rel=1e-5), name


def test_ramp() -> None:
    assert [losses.ramp(p, 0.4) for p in (0.0, 0.2, 0.4, 0.9)] == [0.0, 0.5, 1.0, 1.0]
    assert losses.ramp(0.0, 0.0) == 1.0


TERMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "uda": lambda s, w: losses.uda(s, w, threshold=TAU, temperature=T)[0],
    "fixmatch": lambda s, w: losses.fixmatch(s, w, TAU)[0],
    "soft_pseudo_label": losses.soft_pseudo_label,
    "mean_teacher": lambda s, w: losses.consistency_mse(s, w.detach()),
    "softmatch": lambda s, w: losses.softmatch(s, w, torch.ones(len(w))),
    "soft_target": lambda s, w: losses.soft_target(s, w, 4.0),
    "logit_matching": losses.logit_matching,
    "feature_consistency": losses.feature_consistency,
}
ONE_VIEW: dict[str, Callable[[Tensor], Tensor]] = {
    "entropy": losses.entropy_minimization,
    "pseudo_label": lambda z: losses.pseudo_label(z, TAU),
}


@pytest.mark.parametrize("name", TERMS)
def test_properties_of_two_view_losses(name: str) -> None:
    term = TERMS[name]
    order = torch.randperm(N)
    assert term(Z_S[order], Z_W[order]).item() == pytest.approx(term(Z_S, Z_W).item(), rel=1e-5)
    empty = term(Z_S[:0], Z_W[:0])
    assert empty.item() == 0.0
    strong, weak = Z_S.clone().requires_grad_(True), Z_W.clone().requires_grad_(True)
    term(strong, weak).backward()
    assert weak.grad is None
    assert strong.grad is not None
    assert strong.grad.abs().sum() > 0
    for scale in (1e4, -1e4):
        for dtype in (torch.float32, torch.bfloat16):
            extreme = (Z_S.sign() * scale).to(dtype).requires_grad_(True)
            value = term(extreme, (Z_W.sign() * scale).to(dtype))
            value.backward()
            assert torch.isfinite(value)
            assert torch.isfinite(extreme.grad).all()
            assert value.dtype == torch.float32


@pytest.mark.parametrize("name", ONE_VIEW)
def test_properties_of_one_view_losses(name: str) -> None:
    term = ONE_VIEW[name]
    order = torch.randperm(N)
    assert term(Z_W[order]).item() == pytest.approx(term(Z_W).item(), rel=1e-5)
    assert term(Z_W[:0]).item() == 0.0
    for dtype in (torch.float32, torch.bfloat16):
        extreme = (Z_W.sign() * 1e4).to(dtype).requires_grad_(True)
        term(extreme).backward()
        assert torch.isfinite(extreme.grad).all()


def test_threshold_above_one_gives_zero_and_no_gradient() -> None:
    for term in (
        lambda s: losses.uda(s, Z_W, threshold=1.1, temperature=T)[0],
        lambda s: losses.fixmatch(s, Z_W, 1.1)[0],
    ):
        strong = Z_S.clone().requires_grad_(True)
        value = term(strong)
        value.backward()
        assert value.item() == 0.0
        assert not math.isnan(value.item())
        assert strong.grad.abs().sum() == 0
