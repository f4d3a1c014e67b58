"""The quality figures against cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from ppgen.quality.features import SampleSet, dhash
from ppgen.quality.figures import (
    BINS,
    class_spread,
    compare_sets,
    frechet,
    groups,
    histogram,
    kid,
    mean_distance,
    measure_agreement,
    near,
    prdc,
    radii,
)


def standard(count: int, dimensions: int, seed: int = 0) -> np.ndarray:
    """Samples whose empirical mean is exactly 0 and whose empirical covariance is exactly the identity."""
    x = np.random.default_rng(seed).normal(size=(count, dimensions))
    x -= x.mean(0)
    return x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T


# ---- Frechet distance


def test_frechet_of_two_axis_parallel_gaussians() -> None:
    """|mu|^2 + sum (s_i - t_i)^2 for standard deviations s and t."""
    s, t, mu = np.array([1.0, 2.0, 0.5]), np.array([3.0, 1.0, 0.5]), np.array([1.0, -2.0, 0.5])
    a, b = standard(200, 3) * s, standard(150, 3, seed=1) * t + mu
    assert frechet(a, b) == pytest.approx((mu**2).sum() + ((s - t) ** 2).sum(), rel=1e-9)


def test_frechet_of_covariances_that_do_not_commute() -> None:
    random = np.random.default_rng(2)
    left, right = random.normal(size=(2, 4, 4))
    a, b = standard(100, 4) @ left.T, standard(90, 4, seed=3) @ right.T
    cov_a, cov_b = left @ left.T, right @ right.T
    expected = np.trace(cov_a) + np.trace(cov_b) - 2 * np.trace(sqrtm(cov_a @ cov_b)).real
    assert frechet(a, b) == pytest.approx(expected, rel=1e-8)
    assert frechet(b, a) == pytest.approx(expected, rel=1e-8)


def test_frechet_survives_fewer_samples_than_dimensions() -> None:
    x = np.random.default_rng(4).normal(size=(5, 20)).astype(np.float32)
    assert frechet(x, x) == pytest.approx(0, abs=1e-5)
    assert frechet(x, x + 1) == pytest.approx(20, rel=1e-4)
    assert frechet(x[:, :1], x[:, :1] + 2) == pytest.approx(4, rel=1e-5)


# ---- kernel distance


def test_kid_is_its_definition() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(7, 3)), random.normal(size=(5, 3)) + 1

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 3 + 1) ** 3)

    own_a = np.mean([k(a[i], a[j]) for i in range(7) for j in range(7) if i != j])
    own_b = np.mean([k(b[i], b[j]) for i in range(5) for j in range(5) if i != j])
    assert kid(a, b) == pytest.approx(own_a + own_b - 2 * np.mean([k(x, y) for x in a for y in b]), rel=1e-10)


def test_kid_is_unbiased_at_any_sample_size() -> None:
    """For N(0, 1) and N(m, 1) MMD^2 = 3 m^2 + 3 m^4 + (m^3 + 3 m)^2, from the moments that (xy + 1)^3 compares."""
    random = np.random.default_rng(0)
    m = 0.7
    truth = 3 * m**2 + 3 * m**4 + (m**3 + 3 * m) ** 2
    for count, repeats in ((10, 4000), (50, 800)):
        found = [
            kid(random.normal(size=(count, 1)), random.normal(size=(count, 1)) + m) for _ in range(repeats)
        ]
        error = np.std(found) / np.sqrt(repeats)
        assert abs(np.mean(found) - truth) < 4 * error
        same = [kid(random.normal(size=(count, 1)), random.normal(size=(count, 1))) for _ in range(repeats)]
        assert abs(np.mean(same)) < 4 * np.std(same) / np.sqrt(repeats)


# ---- precision, recall, density, coverage


def test_prdc_is_its_definition() -> None:
    random = np.random.default_rng(5)
    real, fake, k = random.normal(size=(30, 2)), random.normal(size=(40, 2)) * 0.6 + 0.4, 3

    def reach(x: np.ndarray, i: int) -> float:
        return sorted(float(np.linalg.norm(x[i] - other)) for other in x)[k]

    inside = np.array([[np.linalg.norm(f - real[i]) < reach(real, i) for f in fake] for i in range(30)])
    recalled = [any(np.linalg.norm(r - fake[j]) < reach(fake, j) for j in range(40)) for r in real]
    found = prdc(real, fake, k)
    assert found["precision"] == pytest.approx(inside.any(0).mean())
    assert found["recall"] == pytest.approx(np.mean(recalled))
    assert found["density"] == pytest.approx(inside.sum() / (k * 40))
    assert found["coverage"] == pytest.approx(inside.any(1).mean())


def test_prdc_of_toy_sets() -> None:
    random = np.random.default_rng(6)
    real = random.normal(size=(400, 2))
    assert prdc(real, real + 100) == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}
    alike = prdc(real, random.normal(size=(400, 2)))
    assert min(alike["precision"], alike["recall"], alike["coverage"]) > 0.9
    assert alike["density"] == pytest.approx(1, abs=0.1)
    collapsed = prdc(real, random.normal(size=(400, 2)) * 0.01)
    assert collapsed["precision"] == 1
    assert collapsed["recall"] < 0.05
    assert collapsed["coverage"] < 0.1


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(7)
    a, b = random.normal(size=(50, 4)), random.normal(size=(33, 4))
    whole = (kid(a, b), prdc(a, b), mean_distance(a), radii(a, 5).tolist())
    monkeypatch.setattr("ppgen.quality.figures._CHUNK", 7)
    parts = (kid(a, b), prdc(a, b), mean_distance(a), radii(a, 5).tolist())
    assert parts[0] == pytest.approx(whole[0])
    assert parts[1] == pytest.approx(whole[1])
    assert parts[2] == pytest.approx(whole[2])
    assert parts[3] == pytest.approx(whole[3])


def test_mean_distance() -> None:
    assert mean_distance(np.array([[0.0], [3.0], [5.0]])) == pytest.approx((3 + 5 + 2) / 3)


# ---- duplicates


def test_dhash_by_hand() -> None:
    ramp = torch.arange(72).remainder(9).mul(25).reshape(1, 1, 8, 9).to(torch.uint8)
    assert dhash(ramp)[0] == 2**64 - 1
    assert dhash(ramp.flip(3))[0] == 0
    assert dhash(torch.full((1, 3, 20, 30), 7, dtype=torch.uint8))[0] == 0
    one = torch.zeros(1, 1, 8, 9, dtype=torch.uint8)
    one[0, 0, 0, 1] = 255  # brighter than its left neighbour: the first of the 64 bits
    assert dhash(one)[0] == 1 << 63


def test_dhash_ignores_brightness_and_size_and_tells_pictures_apart() -> None:
    random = np.random.default_rng(0)
    small = torch.from_numpy(random.integers(0, 120, (20, 1, 8, 9), dtype=np.uint8))
    large = small.repeat_interleave(5, 2).repeat_interleave(5, 3)
    assert (dhash(large) == dhash(small)).all()
    assert (dhash(small * 2 + 10) == dhash(small)).all()
    assert len(np.unique(dhash(small))) == 20


def test_near_hashes_and_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ppgen.quality.figures._CHUNK", 2)
    hashes = np.array([0, 0b11, 0b1111, 2**63, 2**63, 0xFF00], dtype=np.uint64)
    assert near(hashes).tolist() == [True, True, True, True, True, False]
    assert near(hashes, bits=0).tolist() == [False, False, False, True, True, False]
    assert groups(np.array([5, 7, 5, 9, 7, 5], dtype=np.uint64)) == [[0, 2, 5], [1, 4]]


# ---- agreement, spread, comparison


def samples(condition: object, probabilities: object) -> SampleSet:
    c, p = np.array(condition, dtype=np.float32), np.array(probabilities, dtype=np.float32)
    return SampleSet("ours", np.arange(len(c)), np.arange(len(c), dtype=np.uint64), c, probabilities=p)


def test_agreement_with_hard_conditions() -> None:
    figures = measure_agreement(
        samples([[1, 0], [1, 0], [0, 1], [0, 1]], [[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.0, 1.0]]),
        ["a", "b"],
    )
    assert figures["soft"] is False
    assert figures["agreement"] == 0.75
    assert figures["per_class"] == {
        "a": {"looked_at": 2, "agreement": 0.5},
        "b": {"looked_at": 2, "agreement": 1.0},
    }
    assert figures["confidence"]["mean"] == pytest.approx((0.9 + 0.2 + 0.6 + 1.0) / 4)
    assert sum(figures["confidence"]["histogram"]["counts"]) == 4
    assert figures["entropy"]["histogram"]["counts"][0] == 1
    assert "kl" not in figures


def test_agreement_with_soft_conditions() -> None:
    c, p = np.array([[0.5, 0.5], [0.8, 0.2]]), np.array([[0.9, 0.1], [0.8, 0.2]])
    figures = measure_agreement(samples(c, p), ["a", "b"])
    assert figures["soft"] is True
    assert figures["confidence"]["mean"] == pytest.approx((0.5 + 0.8 * 0.8 + 0.2 * 0.2) / 2)
    assert figures["echo"] == pytest.approx((0.5 + 0.68) / 2)
    first = 0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)
    assert figures["kl"]["mean"] == pytest.approx(first / 2, rel=1e-5)


def test_class_spread_sees_a_collapsed_class() -> None:
    random = np.random.default_rng(0)
    centres = np.repeat(np.eye(4) * 10, 50, axis=0)
    groups = np.repeat(np.arange(4), 50)
    wide = class_spread(centres + random.normal(size=(200, 4)), groups, seed=0)
    collapsed = class_spread(centres, groups, seed=0)
    assert wide is not None
    assert collapsed is not None
    assert 0.1 < wide["ratio"] < 0.3
    assert collapsed["within_class"] == pytest.approx(0, abs=1e-6)
    assert class_spread(centres[:3], np.arange(3), seed=0) is None


def test_comparison_uses_equal_numbers_and_orders_the_candidates() -> None:
    random = np.random.default_rng(0)

    def features_only(name: str, count: int, shift: float) -> SampleSet:
        features = random.normal(size=(count, 3)) + shift
        return SampleSet(name, np.arange(count), np.arange(count, dtype=np.uint64), features=features)

    rows = compare_sets(
        features_only("real", 300, 0), [features_only("near", 250, 0.3), features_only("far", 400, 2)], seed=0
    )
    assert [(row["of"], row["samples"]) for row in rows] == [
        ("near", [250, 300]),
        ("far", [250, 300]),
        ("half of the real", [150, 150]),
    ]
    for figure in ("frechet", "kid"):
        assert rows[2][figure] < rows[0][figure] < rows[1][figure]
    assert rows[0]["coverage"] > rows[1]["coverage"]


def test_tiny_sets_have_no_neighbourhoods() -> None:
    features = np.random.default_rng(0).normal(size=(4, 3))
    few = SampleSet("few", np.arange(4), np.arange(4, dtype=np.uint64), features=features)
    rows = compare_sets(few, [few], seed=0)
    assert "precision" not in rows[0]
    assert rows[0]["frechet"] == pytest.approx(0, abs=1e-6)


def test_histogram_keeps_every_value() -> None:
    figures = histogram(np.array([-1e-9, 0.0, 0.5, 1.0, 1.0000001]), 0, 1)
    assert figures["counts"][0] == 2
    assert figures["counts"][-1] == 2
    assert len(figures["edges"]) == BINS + 1
