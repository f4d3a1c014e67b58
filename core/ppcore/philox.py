"""Normal noise from counters: the same bits on every device, made where it is needed, a function of seed, draw and position alone.

Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") gives the uniform integers, the inverse of the normal
distribution (Wichura 1988, algorithm AS 241) the values. Every step is an integer operation or one of the float64 operations that IEEE 754
rounds exactly (+ - * /), each a kernel of its own, so that no compiler fuses two; a library's logarithm, cosine or even square root
(MKL's vector one) differs from device to device in the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10

# AS 241, PPND16: numerator and denominator in rising powers, for the centre |q| <= 0.425 and for the tail up to 2^-33.
_CENTRE = (
    (
        3.3871328727963666080e0,
        1.3314166789178437745e2,
        1.9715909503065514427e3,
        1.3731693765509461125e4,
        4.5921953931549871457e4,
        6.7265770927008700853e4,
        3.3430575583588128105e4,
        2.5090809287301226727e3,
    ),
    (
        1.0,
        4.2313330701600911252e1,
        6.8718700749205790830e2,
        5.3941960214247511077e3,
        2.1213794301586595867e4,
        3.9307895800092710610e4,
        2.8729085735721942674e4,
        5.2264952788528545610e3,
    ),
)
_TAIL = (
    (
        1.42343711074968357734e0,
        4.63033784615654529590e0,
        5.76949722146069140550e0,
        3.64784832476320460504e0,
        1.27045825245236838258e0,
        2.41780725177450611770e-1,
        2.27238449892691845833e-2,
        7.74545014278341407640e-4,
    ),
    (
        1.0,
        2.05319162663775882187e0,
        1.67638483018380384940e0,
        6.89767334985100004550e-1,
        1.48103976427480074590e-1,
        1.51986665636164571966e-2,
        5.47593808499534494600e-4,
        1.05075007164441684324e-9,
    ),
)
_NEWTON_STEPS = 6  # from (x + 9) / 6 to the last bit of the root on [0.7, 23]
_LOG_TERMS = 13  # of the series of atanh; the rest is below 2^-53 on [1/sqrt 2, sqrt 2]


class PhiloxNoise:
    """Gaussian noise with the interface of :class:`ppcore.seeds.PerSampleNoise`; successive draws are further counters.

    Args:
        seeds: int64 (B,), 63 bits each, on any device; noise is made on that device.
    """

    def __init__(self, seeds: Tensor) -> None:
        self._key = (seeds & _WORD, (seeds >> 32) & _WORD)
        self._draws = 0

    def randn(
        self,
        shape: Sequence[int],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        cut: float | None = None,
    ) -> Tensor:
        """(B, *shape) standard normal values, rounded to float32, then to `dtype`; made on `device`, or where the seeds are.

        Args:
            cut: draw from the normal distribution cut off at this many standard deviations.
        """
        place = self._key[0].device if device is None else device
        key = tuple(part.to(place).view(-1, 1) for part in self._key)
        count = math.prod(shape)
        block = torch.arange(-(-count // 4), dtype=torch.int64, device=place).view(1, -1)
        words = philox(
            (block & _WORD, block >> 32, torch.full_like(block, self._draws), torch.zeros_like(block)), key
        )
        self._draws += 1
        flat = torch.stack(words, dim=2).flatten(1)[:, :count]  # (B, count)
        return inverse_normal(flat, cut).float().view(-1, *shape).to(dtype)


def philox(counter: Sequence[Tensor], key: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32-10 of int64 tensors that hold 32-bit words: four counter words and two key words, broadcast together."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for round_ in range(_ROUNDS):
        if round_:
            k0, k1 = (k0 + _KEY_STEPS[0]) & _WORD, (k1 + _KEY_STEPS[1]) & _WORD
        first, second = (
            c0 * _MULTIPLIERS[0],
            c2 * _MULTIPLIERS[1],
        )  # wrap modulo 2^64, which leaves all 64 bits right
        c0, c1, c2, c3 = (
            ((second >> 32) & _WORD) ^ c1 ^ k0,
            second & _WORD,
            ((first >> 32) & _WORD) ^ c3 ^ k1,
            first & _WORD,
        )
    return c0, c1, c2, c3


def inverse_normal(words: Tensor, cut: float | None = None) -> Tensor:
    """The quantile of (word + 1/2) / 2^32 of the normal distribution, cut off at +-`cut`: int64 words below 2^32 -> float64, of the
    same shape."""
    p = (words.double() + 0.5) * 2.0**-32
    if cut is not None:
        tail_mass = 0.5 * math.erfc(cut / math.sqrt(2))
        p = p * (1 - 2 * tail_mass)
        p = p + tail_mass
    q = p - 0.5
    central = 0.180625 - q * q
    centre = q * _ratio(_CENTRE, central)
    smaller = torch.where(q < 0, p, 1.0 - p)
    r = _square_root(-_log(smaller)) - 1.6
    tail = _ratio(_TAIL, r)
    return torch.where(central >= 0, centre, torch.where(q < 0, -tail, tail))


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Tensor) -> Tensor:
    top, bottom = (_horner(part, x) for part in coefficients)
    return top / bottom


def _horner(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    value = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x
        value = value + coefficient
    return value


def _log(x: Tensor) -> Tensor:
    """Natural logarithm of float64 x > 0, by exactly rounded operations: x = m 2^e, log m = 2 atanh((m - 1) / (m + 1))."""
    mantissa, exponent = torch.frexp(x)
    low = mantissa < math.sqrt(0.5)
    mantissa = torch.where(low, mantissa * 2, mantissa)
    exponent = exponent.double() - low.double()
    s = (mantissa - 1) / (mantissa + 1)
    series = _horner(tuple(1.0 / (2 * k + 1) for k in range(_LOG_TERMS)), s * s)
    return exponent * math.log(2) + 2 * s * series


def _square_root(x: Tensor) -> Tensor:
    """Of float64 x in [0.7, 23], by Newton's iteration."""
    root = (x + 9.0) / 6.0
    for _ in range(_NEWTON_STEPS):
        root = (root + x / root) * 0.5
    return root
