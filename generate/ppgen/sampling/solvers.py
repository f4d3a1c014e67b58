"""Solvers as pure functions of one signature: `solver(denoise, x, path, draw)` takes x at the first level and returns the end point.

Every solver works on x_i = alpha_i * clean + sigma_i * noise and calls the network only through `denoise`. Coefficients are
Python floats (float64); tensors keep their dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Guidance:
    """How far the conditional prediction is moved away from the unconditional one, and at which noise levels.

    Low guidance in a limited interval is the default because the images are meant for training: guidance at high noise
    destroys variety and at low noise changes nothing (Kynkäänniemi et al. 2024, arXiv 2404.07724). Their interval for
    DiT-XL/2 is (0.34, 1.02] at scale 2.5. The default here contains it and is wider because its scale is lower.

    Attributes:
        scale: 1 is no guidance. A step with guidance evaluates the network on twice the batch.
        interval: (lo, hi); guidance acts where lo < noise-to-signal ratio <= hi; None means everywhere.
        channels: number of leading channels that are guided; None means all. The original DiT samples with 3 of 4.
    """

    scale: float = 1.5
    interval: tuple[float, float] | None = (0.28, 2.0)
    channels: int | None = None

    def active(self, ratio: float) -> bool:
        """Whether a level of this noise-to-signal ratio is guided."""
        if self.scale == 1.0:
            return False
        return self.interval is None or self.interval[0] < ratio <= self.interval[1]

    def combine(self, conditional: torch.Tensor, unconditional: torch.Tensor) -> torch.Tensor:
        """unconditional + scale * (conditional - unconditional) on the guided channels, (B, C, H, W)."""
        guided = unconditional + self.scale * (conditional - unconditional)
        if self.channels is None or self.channels >= conditional.shape[1]:
            return guided
        return torch.cat([guided[:, : self.channels], conditional[:, self.channels :]], dim=1)


Denoise = Callable[[torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]
"""(x, i) -> (clean, noise): the network's estimate of the two parts of x (B, C, H, W) at level i, each of the shape of x."""

Draw = Callable[[], torch.Tensor]
"""() -> new standard normal noise of the shape of x, each sample from its own random stream."""


@dataclass(frozen=True)
class Path:
    """The N + 1 noise levels of N steps, from noise to data.

    Attributes:
        alphas: scale of the clean image at every level.
        sigmas: scale of the noise at every level, falling.
    """

    alphas: tuple[float, ...]
    sigmas: tuple[float, ...]

    def __len__(self) -> int:
        """Number of steps, N."""
        return len(self.sigmas) - 1

    def ratio(self, i: int) -> float:
        """Noise-to-signal ratio of level i, the sigma of Karras et al. 2022; infinite for pure noise."""
        return self.sigmas[i] / self.alphas[i] if self.alphas[i] > 0 else math.inf


Solver = Callable[[Denoise, torch.Tensor, Path, Draw], torch.Tensor]


def ddim(denoise: Denoise, x: torch.Tensor, path: Path, draw: Draw) -> torch.Tensor:
    """DDIM (Song et al. 2021, eq. 12 with eta = 0): first order, deterministic, one evaluation a step."""
    for i in range(len(path)):
        clean, noise = denoise(x, i)
        x = path.alphas[i + 1] * clean + path.sigmas[i + 1] * noise
    return x


def ancestral(denoise: Denoise, x: torch.Tensor, path: Path, draw: Draw) -> torch.Tensor:
    """DDPM sampling on a sub-sequence (Song et al. 2021, eq. 12 and 16 with eta = 1): stochastic, one evaluation a step.

    With s = sigma / alpha the fresh noise has the variance alpha_next^2 s_next^2 (s^2 - s_next^2) / s^2, for every path; where
    alpha^2 + sigma^2 = 1 this equals the posterior variance of the papers.
    """
    for i in range(len(path)):
        clean, noise = denoise(x, i)
        _, _, alpha_next, sigma_next = _step(path, i)
        std = sigma_next * math.sqrt(max(0.0, 1 - (path.ratio(i + 1) / path.ratio(i)) ** 2))
        x = alpha_next * clean + math.sqrt(max(0.0, sigma_next**2 - std**2)) * noise
        if std > 0:
            x = x + std * draw()
    return x


def dpmpp_2m(denoise: Denoise, x: torch.Tensor, path: Path, draw: Draw) -> torch.Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2): second order, one evaluation a step.

    The first step is of first order, and so is a last step to sigma = 0, where the log-SNR is infinite.
    """
    last_clean, last_h = x, math.inf
    for i in range(len(path)):
        clean, _ = denoise(x, i)
        x, h = _exponential_step(x, clean, last_clean, last_h, path, i)
        last_clean, last_h = clean, h
    return x


def heun(denoise: Denoise, x: torch.Tensor, path: Path, draw: Draw) -> torch.Tensor:
    """Heun's method on dx/dsigma = noise, x and sigma divided by alpha (Karras et al. 2022, algorithm 1).

    Second order, two evaluations a step, one in a last step to sigma = 0.
    """
    for i in range(len(path)):
        alpha, _, alpha_next, sigma_next = _step(path, i)
        stride = path.ratio(i + 1) - path.ratio(i)
        _, slope = denoise(x, i)
        scaled = x / alpha
        x = alpha_next * (scaled + stride * slope)
        if sigma_next > 0:
            _, slope_next = denoise(x, i + 1)
            x = alpha_next * (scaled + 0.5 * stride * (slope + slope_next))
    return x


def consistency(denoise: Denoise, x: torch.Tensor, path: Path, draw: Draw) -> torch.Tensor:
    """Multistep consistency sampling (Song et al. 2023, arXiv 2303.01469, algorithm 1): jump to the clean image, add noise, repeat.

    The last sigma of the path is the paper's epsilon, the level at which the network is the identity.
    """
    clean = x
    for i in range(len(path)):
        clean, _ = denoise(x, i)
        if i + 1 < len(path):
            x = clean + math.sqrt(max(0.0, path.sigmas[i + 1] ** 2 - path.sigmas[-1] ** 2)) * draw()
    return clean


def flow_euler(denoise: Denoise, x: torch.Tensor, path: Path, draw: Draw) -> torch.Tensor:
    """Euler's method on dx/dsigma = noise - clean, for alpha = 1 - sigma (Lipman et al. 2023; Liu et al. 2023).

    First order, one evaluation a step.
    """
    for i in range(len(path)):
        clean, noise = denoise(x, i)
        x = x + (path.sigmas[i + 1] - path.sigmas[i]) * (noise - clean)
    return x


def flow_heun(denoise: Denoise, x: torch.Tensor, path: Path, draw: Draw) -> torch.Tensor:
    """Heun's method on the equation of :func:`flow_euler`.

    Second order, two evaluations a step, one in a last step to sigma = 0.
    """
    for i in range(len(path)):
        stride = path.sigmas[i + 1] - path.sigmas[i]
        clean, noise = denoise(x, i)
        velocity = noise - clean
        euler = x + stride * velocity
        if path.sigmas[i + 1] > 0:
            clean, noise = denoise(euler, i + 1)
            x = x + 0.5 * stride * (velocity + noise - clean)
        else:
            x = euler
    return x


SOLVERS: dict[str, Solver] = {
    "ddim": ddim,
    "ddpm": ancestral,
    "dpmpp_2m": dpmpp_2m,
    "heun": heun,
    "consistency": consistency,
    "flow_euler": flow_euler,
    "flow_heun": flow_heun,
}


def evaluations(solver: str, steps: int) -> list[int]:
    """The level of each network evaluation, in order, on a path of `steps` steps that ends at sigma = 0."""
    if solver in ("heun", "flow_heun"):
        return [level for i in range(steps) for level in ((i, i + 1) if i + 1 < steps else (i,))]
    return list(range(steps))


def guidance_levels(solver: str, steps: int) -> list[int]:
    """The level that decides whether an evaluation is guided, for each of :func:`evaluations`.

    It is the level of the evaluation. Both evaluations of a step of `flow_heun` follow the level where the step begins, as in the
    published sampler of REPA, so that a step averages two slopes of one kind.
    """
    if solver == "flow_heun":
        return [level for i in range(steps) for level in ((i, i) if i + 1 < steps else (i,))]
    return evaluations(solver, steps)


def _step(path: Path, i: int) -> tuple[float, float, float, float]:
    return path.alphas[i], path.sigmas[i], path.alphas[i + 1], path.sigmas[i + 1]


def _exponential_step(
    x: torch.Tensor, clean: torch.Tensor, last_clean: torch.Tensor, last_h: float, path: Path, i: int
) -> tuple[torch.Tensor, float]:
    """One step of DPM-Solver++(2M) from level i; first order where its length or the last one is infinite.

    Args:
        x: at level i.
        clean, last_clean: the clean image as estimated at level i and at the level before.
        last_h: length of the step before.

    Returns:
        (x at level i + 1, h), h the length of the step in log(alpha / sigma).
    """
    alpha, sigma, alpha_next, sigma_next = _step(path, i)
    shrink = alpha * sigma_next / (alpha_next * sigma)  # e^-h
    h = -math.log(shrink) if shrink > 0 else math.inf
    ahead = clean
    if math.isfinite(h) and math.isfinite(last_h):
        ahead = clean + 0.5 * h / last_h * (clean - last_clean)
    return sigma_next / sigma * x + alpha_next * (1 - shrink) * ahead, h
