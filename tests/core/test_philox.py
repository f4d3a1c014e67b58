"""Philox against its published answers, the quantile against scipy, the noise against what it promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from ppcore.philox import _CENTRE, _TAIL, PhiloxNoise, inverse_normal, philox

ANSWERS = [  # the known answers that come with the authors' library Random123
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
SEEDS = torch.tensor([0, 1, 2**62 + 12345, 7])


@pytest.mark.parametrize(("counter", "key", "answer"), ANSWERS)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, ...], answer: tuple[int, ...]) -> None:
    words = philox([torch.tensor([c]) for c in counter], [torch.tensor([k]) for k in key])
    assert tuple(int(word) for word in words) == answer


def test_the_quantile_is_the_normal_one() -> None:
    words = torch.cat([torch.tensor([0, 1, 2**31, 2**32 - 1]), torch.randint(0, 2**32, (20_000,))])
    expected = stats.norm.ppf((words.numpy() + 0.5) / 2**32)
    np.testing.assert_allclose(inverse_normal(words).numpy(), expected, rtol=1e-12, atol=1e-15)


def test_noise_is_standard_normal_and_differs_by_sample_draw_and_place() -> None:
    noise = PhiloxNoise(SEEDS)
    first, second = noise.randn((3, 64, 64)), noise.randn((3, 64, 64))
    assert first.shape == (4, 3, 64, 64)
    assert first.dtype == torch.float32
    assert stats.kstest(torch.cat([first, second]).flatten().numpy(), "norm").pvalue > 0.001
    pairs = torch.corrcoef(torch.cat([first, second]).flatten(1)) - torch.eye(8)
    assert pairs.abs().max() < 0.05
    assert len(torch.unique(first)) > 0.999 * first.numel()


def test_noise_depends_on_the_seed_alone() -> None:
    """Not on batch-mates; and a longer draw begins with the shorter one."""
    together = PhiloxNoise(SEEDS).randn((5, 7))
    for i, seed in enumerate(SEEDS):
        alone = PhiloxNoise(seed.view(1))
        assert torch.equal(alone.randn((5, 7))[0], together[i])
    assert torch.equal(PhiloxNoise(SEEDS).randn((50,))[:, :35], together.flatten(1))


def test_noise_is_made_of_exactly_rounded_operations() -> None:
    """numpy's IEEE arithmetic in the same order gives the same bits: nothing depends on a library's log or on fused operations."""
    words = torch.arange(0, 2**32, 104_729)
    p = (words.numpy().astype(np.float64) + 0.5) * 2.0**-32
    q = p - 0.5

    def horner(c: tuple[float, ...], x: np.ndarray) -> np.ndarray:
        value = np.full_like(x, c[-1])
        for k in reversed(c[:-1]):
            value = value * x + k
        return value

    def log(x: np.ndarray) -> np.ndarray:
        m, e = np.frexp(x)
        low = m < np.sqrt(0.5)
        m, e = np.where(low, m * 2, m), e - low.astype(np.float64)
        s = (m - 1) / (m + 1)
        return e * np.log(2) + 2 * s * horner(tuple(1.0 / (2 * k + 1) for k in range(13)), s * s)

    central = 0.180625 - q * q
    x = -log(np.where(q < 0, p, 1 - p))
    root = (x + 9) / 6
    for _ in range(6):
        root = (root + x / root) * 0.5
    r = root - 1.6
    tail = horner(_TAIL[0], r) / horner(_TAIL[1], r)
    expected = np.where(
        central >= 0, q * (horner(_CENTRE[0], central) / horner(_CENTRE[1], central)), np.copysign(tail, q)
    )
    assert np.array_equal(inverse_normal(words).numpy(), expected)
