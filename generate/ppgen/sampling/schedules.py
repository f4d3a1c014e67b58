"""Noise schedules: the levels that a solver visits, the inputs of the network there, and how to read its output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ppcore.errors import UserError
from ppgen.sampling.solvers import Path

SPACINGS = ("trailing", "leading", "karras")


@dataclass(frozen=True)
class Schedule:
    """A path and, for each of its first N levels, the two linear maps around the network.

    The network gets `scale_in * x` and `timestep`; `clean = skip * x + out * output`.

    Attributes:
        start: standard deviation of the initial noise.
        clip: clean estimates are clamped to [-clip, clip]; None (latents) does not clamp.
    """

    path: Path
    timesteps: tuple[float, ...]
    scale_in: tuple[float, ...]
    skip: tuple[float, ...]
    out: tuple[float, ...]
    start: float = 1.0
    clip: float | None = None

    def read(self, x: torch.Tensor, output: torch.Tensor, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(clean, noise) at level i, each of the shape of x, from x and the network's output. The noise belongs to the unclipped
        estimate.
        """
        alpha, sigma = self.path.alphas[i], self.path.sigmas[i]
        clean = self.skip[i] * x + self.out[i] * output
        # Solves x = alpha * clean + sigma * noise for noise. The scalars are combined first, because dividing tensors by a
        # small sigma would amplify rounding.
        noise = (1 - alpha * self.skip[i]) / sigma * x - alpha * self.out[i] / sigma * output
        return (clean if self.clip is None else clean.clamp(-self.clip, self.clip)), noise


def discrete(
    alphas_cumprod: torch.Tensor,
    steps: int,
    *,
    spacing: str = "trailing",
    prediction: str = "epsilon",
    final_alpha: float = 1.0,
    clip: float | None = None,
) -> Schedule:
    """A variance-preserving schedule on T training steps (Ho et al. 2020).

    Args:
        alphas_cumprod: float (T,), the product of 1 - beta.
        spacing: `trailing` starts at the noisiest step, as training did (Lin et al. 2024, table 2); `leading` starts one
            stride earlier; `karras` spaces sigma as eq. 5 of Karras et al. 2022 with rho = 7.
        prediction: output of the network: `epsilon`, `sample` or `v_prediction`.
        final_alpha: cumulated alpha of the last level; 1 ends at the clean image.

    Raises:
        UserError: unknown spacing or prediction, more steps than T.
    """
    total = len(alphas_cumprod)
    if not 1 <= steps <= total:
        raise UserError(
            f"{steps} sampling steps asked for; expected 1 to {total}, the steps the model was trained on"
        )
    cumulated = alphas_cumprod.double()
    if spacing == "karras":
        ratios = ((1 - cumulated) / cumulated).sqrt()
        if not 0 < float(ratios[0]) < float(ratios[-1]) < math.inf:
            raise UserError(
                "spacing 'karras' needs a model whose noise begins above 0 and leaves some signal at its end, which this one's does "
                "not; use trailing or leading"
            )
        chosen = karras(float(ratios[0]), float(ratios[-1]), steps)
        timesteps = [_interpolate(math.log(r), ratios.log().tolist()) for r in chosen]
        alphas = [1 / math.sqrt(1 + r * r) for r in chosen]
    else:
        timesteps = [float(t) for t in _spaced(total, steps, spacing)]
        alphas = [math.sqrt(float(cumulated[int(t)])) for t in timesteps]
    sigmas = [math.sqrt(max(0.0, 1 - a * a)) for a in alphas]
    skip, out = _output_maps(prediction, alphas, sigmas)
    path = Path((*alphas, math.sqrt(final_alpha)), (*sigmas, math.sqrt(1 - final_alpha)))
    return Schedule(path, tuple(timesteps), (1.0,) * steps, tuple(skip), tuple(out), clip=clip)


def flow(
    steps: int,
    *,
    shift: float = 1.0,
    train_timesteps: int = 1000,
    inverted: bool = False,
    clip: float | None = None,
) -> Schedule:
    """Rectified flow: alpha = 1 - sigma, the network gets sigma * train_timesteps and returns noise - clean.

    An `inverted` network gets alpha * train_timesteps and returns clean - noise.

    Sigmas are evenly spaced from 1 to 0 and shifted as in Esser et al. 2024, eq. 23. (The default of the
    stock scheduler ends at 0.001 and spends one evaluation on the last thousandth.)
    """
    sigmas = [1 - i / steps for i in range(steps + 1)]
    sigmas = [shift * s / (1 + (shift - 1) * s) for s in sigmas]
    path = Path(tuple(1 - s for s in sigmas), tuple(sigmas))
    inner = sigmas[:-1]
    return Schedule(
        path,
        tuple((1 - s if inverted else s) * train_timesteps for s in inner),
        (1.0,) * steps,
        (1.0,) * steps,
        tuple(s if inverted else -s for s in inner),
        clip=clip,
    )


def edm(
    steps: int,
    *,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    sigma_data: float = 0.5,
    rho: float = 7.0,
    negated: bool = False,
) -> Schedule:
    """The schedule and preconditioning of Karras et al. 2022 (eq. 5, table 1); `negated` is the v-prediction variant."""
    sigmas = karras(sigma_min, sigma_max, steps, rho)
    widths = [math.sqrt(s * s + sigma_data**2) for s in sigmas]
    sign = -1.0 if negated else 1.0
    return Schedule(
        Path((1.0,) * (steps + 1), (*sigmas, 0.0)),
        tuple(0.25 * math.log(s) for s in sigmas),
        tuple(1 / w for w in widths),
        tuple((sigma_data / w) ** 2 for w in widths),
        tuple(sign * s * sigma_data / w for s, w in zip(sigmas, widths, strict=True)),
        start=sigma_max,
    )


def consistency_levels(
    positions: Sequence[int],
    *,
    train_timesteps: int = 40,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    sigma_data: float = 0.5,
    rho: float = 7.0,
    clip: float | None = 1.0,
) -> Schedule:
    """The levels of a consistency model and its boundary-condition scalings (Song et al. 2023, appendix C).

    Args:
        positions: rising positions on the training grid of `train_timesteps` levels, 0 being sigma_max.
    """
    span = max(train_timesteps - 1, 1)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas = [(high + position / span * (low - high)) ** rho for position in positions]
    return Schedule(
        Path((1.0,) * (len(sigmas) + 1), (*sigmas, sigma_min)),
        tuple(250 * math.log(s + 1e-44) for s in sigmas),
        tuple(1 / math.sqrt(s * s + sigma_data**2) for s in sigmas),
        tuple(sigma_data**2 / ((s - sigma_min) ** 2 + sigma_data**2) for s in sigmas),
        tuple((s - sigma_min) * sigma_data / math.sqrt(s * s + sigma_data**2) for s in sigmas),
        start=sigma_max,
        clip=clip,
    )


def karras(sigma_min: float, sigma_max: float, steps: int, rho: float = 7.0) -> list[float]:
    """`steps` falling sigmas from sigma_max to sigma_min (Karras et al. 2022, eq. 5)."""
    if steps == 1:
        return [sigma_max]
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return [(high + i / (steps - 1) * (low - high)) ** rho for i in range(steps)]


def _output_maps(
    prediction: str, alphas: list[float], sigmas: list[float]
) -> tuple[list[float], list[float]]:
    """(skip, out) of :class:`Schedule` for the kind of output of the network."""
    if prediction == "sample":
        return [0.0] * len(alphas), [1.0] * len(alphas)
    if prediction == "v_prediction":
        return alphas, [-s for s in sigmas]
    if prediction != "epsilon":
        raise UserError(
            f"the scheduler predicts {prediction!r}; expected epsilon, sample or v_prediction; use another model"
        )
    if min(alphas) == 0.0:
        raise UserError(
            "a model that starts from noise without any signal cannot predict epsilon; use a v-prediction model"
        )
    return [1 / a for a in alphas], [-s / a for a, s in zip(alphas, sigmas, strict=True)]


def _spaced(total: int, steps: int, spacing: str) -> list[int]:
    """`steps` training steps out of 0 .. total - 1, falling."""
    if spacing == "trailing":
        return [round(total - i * total / steps) - 1 for i in range(steps)]
    if spacing == "leading":
        return [i * (total // steps) for i in reversed(range(steps))]
    raise UserError(f"unknown spacing {spacing!r}; choose {', '.join(SPACINGS)}")


def _interpolate(value: float, rising: list[float]) -> float:
    """Fractional position of `value` in a rising table."""
    table = torch.tensor(rising, dtype=torch.float64)
    above = int(torch.searchsorted(table, value).clamp(1, len(rising) - 1))
    low, high = rising[above - 1], rising[above]
    return above - 1 + min(1.0, max(0.0, (value - low) / (high - low)))
