"""Solver errors on a Gaussian mixture whose denoiser is known exactly: `python benchmarks/solvers.py`; with a trained
network: `python benchmarks/solvers.py --trained`.

Prints, for every solver, the measured order of convergence on a smooth stretch of the path, and at 10 and 20 steps from
noise to data the error of the end point (root mean square over samples and dimensions, against a solution with 1,000 Heun
steps) and the energy distance to the mixture itself. Heun evaluates the network twice a
step, so the number of evaluations is printed too.

`--trained` samples the network of the embedded kit on its own flow path and, rescaled, on the levels of a diffusion model. It
prints the error of the images against 200 Heun steps and the share that the kit's classifier recognises as the class asked for.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from typing import Any

import torch

from ppcore.seeds import PerSampleNoise
from ppgen.generators.parts.family import to_uint8
from ppgen.sampling import schedules
from ppgen.sampling.solvers import SOLVERS, Denoise, Path, evaluations, flow_heun, heun

MEANS = torch.tensor([[-0.9, -0.5], [0.8, -0.6], [0.1, 0.9]], dtype=torch.float64)
WIDTHS = torch.tensor([0.30, 0.35, 0.40], dtype=torch.float64)
WEIGHTS = torch.tensor([0.3, 0.3, 0.4], dtype=torch.float64)
FINE_STEPS = 1000
SAMPLES = 2000
SPACINGS = {
    "flow_euler": ("flow",),
    "flow_heun": ("flow",),
    "heun": ("edm", "karras"),
    "consistency": ("edm",),
}
THEORY = {"ddim": 1, "flow_euler": 1, "heun": 2, "flow_heun": 2, "dpmpp_2m": 2}
"""Order of the global error."""


@dataclass(frozen=True)
class Mixture:
    """The exact denoiser of the mixture on a path."""

    path: Path

    def denoise(self, x: torch.Tensor, level: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Exact posterior mean of the clean sample given x (N, 2) float64, and of the noise."""
        alpha, sigma = self.path.alphas[level], self.path.sigmas[level]
        variances = (alpha * WIDTHS) ** 2 + sigma**2  # (K,)
        offsets = x[:, None] - alpha * MEANS  # (N, K, 2)
        logits = WEIGHTS.log() - variances.log() - 0.5 * offsets.square().sum(-1) / variances  # (N, K)
        means = MEANS + (alpha * WIDTHS**2 / variances)[:, None] * offsets  # (N, K, 2)
        clean = (logits.softmax(1)[..., None] * means).sum(1)
        return clean, (x - alpha * clean) / sigma


def draw_mixture(count: int, seed: int) -> torch.Tensor:
    """(count, 2) float64 samples of the mixture."""
    generator = torch.Generator().manual_seed(seed)
    which = torch.multinomial(WEIGHTS, count, replacement=True, generator=generator)
    noise = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    return MEANS[which] + WIDTHS[which, None] * noise


def smooth_path(solver: str, steps: int) -> Path:
    """A part of the solver's kind of path, away from both ends."""
    if solver.startswith("flow"):
        sigmas = [0.95 - 0.85 * i / steps for i in range(steps + 1)]
        return Path(tuple(1 - s for s in sigmas), tuple(sigmas))
    half_log_snr = [-1.5 + 3.5 * i / steps for i in range(steps + 1)]
    alphas = [1 / math.sqrt(1 + math.exp(-2 * h)) for h in half_log_snr]
    return Path(tuple(alphas), tuple(math.sqrt(1 - a * a) for a in alphas))


def full_path(solver: str, steps: int, spacing: str) -> Path:
    """The path the generators sample on: rectified flow's, Karras's, or one on DiT's 1,000 training steps."""
    if spacing == "flow":
        return schedules.flow(steps).path
    if spacing == "edm":
        return schedules.edm(steps).path
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    return schedules.discrete(torch.cumprod(1 - betas, 0), steps, spacing=spacing).path


def solve(solver: str, path: Path, start: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """End points of the solver on the mixture from start (N, 2)."""
    generator = torch.Generator().manual_seed(seed)

    def draw() -> torch.Tensor:
        return torch.randn(start.shape, generator=generator, dtype=torch.float64)

    denoise: Denoise = Mixture(path).denoise
    if solver == "consistency":
        denoise = ideal_consistency_function(path)
    return SOLVERS[solver](denoise, start, path, draw)


def ideal_consistency_function(path: Path) -> Denoise:
    """A perfect consistency model: the end point of the ODE from any level."""

    def jump(x: torch.Tensor, level: int) -> tuple[torch.Tensor, torch.Tensor]:
        sigmas = schedules.karras(0.002, path.sigmas[level], 32)
        rest = Path((1.0,) * 33, (*sigmas, 0.0))
        return heun(Mixture(rest).denoise, x, rest, lambda: x), x

    return jump


def finely(solver: str, path: Path, start: torch.Tensor) -> torch.Tensor:
    """End points of the path's ODE from start by Heun's method on the levels of `path`; give many levels."""
    return (flow_heun if solver.startswith("flow") else heun)(
        Mixture(path).denoise, start, path, lambda: start
    )


def rms(difference: torch.Tensor) -> float:
    return float(difference.square().mean().sqrt())


def order(solver: str, coarse: int = 32, samples: int = 64) -> float:
    """log2 of the ratio of the errors at `coarse` and 2 * `coarse` steps on the smooth path."""
    start = 0.9 * torch.randn(samples, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact = finely(solver, smooth_path(solver, FINE_STEPS), start)
    errors = [rms(solve(solver, smooth_path(solver, n), start) - exact) for n in (coarse, 2 * coarse)]
    return math.log2(errors[0] / errors[1])


def energy_distance(x: torch.Tensor, y: torch.Tensor) -> float:
    """sqrt(2 E|X-Y| - E|X-X'| - E|Y-Y'|) (Szekely & Rizzo 2013), unbiased; 0 where sampling noise makes it negative."""
    within = [torch.cdist(z, z).sum() / (len(z) * (len(z) - 1)) for z in (x, y)]
    return math.sqrt(max(0.0, float(2 * torch.cdist(x, y).mean() - sum(within))))


def row(solver: str, spacing: str, steps: int, start: torch.Tensor, truth: torch.Tensor) -> str:
    """One line of the table."""
    path = full_path(solver, steps, spacing)
    noise = path.sigmas[0] * start
    ends = solve(solver, path, noise)
    error = "-"
    if solver in THEORY:
        error = f"{rms(ends - finely(solver, full_path(solver, FINE_STEPS, spacing), noise)):.2e}"
    theory, measured = (str(THEORY[solver]), f"{order(solver):.2f}") if solver in THEORY else ("-", "-")
    count = len(evaluations(solver, steps))
    distance = energy_distance(ends, truth)
    return f"| {solver} | {spacing} | {theory} | {measured} | {steps} | {count} | {error} | {distance:.4f} |"


@torch.inference_mode()
def trained_rows(count: int = 420, compared: int = 84) -> None:
    """Print the table of `--trained`: RMS error of `compared` images in [-1, 1], agreement of `count` images; of 50 steps `compared`."""
    from ppgen.generators import load_generator
    from ppgen.sources import SourceSpec, open_classifier

    letters: Any = load_generator("letters", device="cpu")
    network = letters._network
    classifier = open_classifier(
        SourceSpec("letters", device="cpu"), letters.num_classes, letters.class_names
    )
    labels = torch.arange(count) % letters.num_classes
    embedded = network.embed(torch.eye(letters.num_classes)[labels])[:count]

    def images(solver: str, spacing: str, steps: int, wanted: int) -> torch.Tensor:
        path = full_path(solver, steps, spacing)
        noise = PerSampleNoise(torch.arange(wanted))

        def denoise(x: torch.Tensor, level: int) -> tuple[torch.Tensor, torch.Tensor]:
            scale = path.alphas[level] + path.sigmas[level]  # of this path's x over the flow's x
            sigma, x = path.sigmas[level] / scale, x / scale
            network._timesteps = torch.full((level + 1,), 1000.0 * sigma)
            parts = zip(x.split(compared), embedded[:wanted].split(compared), strict=True)
            velocity = torch.cat([network.predict(a, level, b, False).float() for a, b in parts])
            return x - sigma * velocity, x + (1 - sigma) * velocity

        def draw() -> torch.Tensor:
            return noise.randn(network.shape)

        return letters._decoder(SOLVERS[solver](denoise, path.sigmas[0] * draw(), path, draw)).clamp(-1, 1)

    print("| levels | solver | steps | error | recognised |\n|---|---|---|---|---|")
    for spacing in ("flow", "trailing", "karras"):
        exact = images("flow_heun" if spacing == "flow" else "heun", spacing, 200, compared)
        for solver in ("flow_euler" if spacing == "flow" else "ddim", "dpmpp_2m"):
            for steps in (10, 20, 50):
                found = images(solver, spacing, steps, count if steps < 50 else compared)
                seen = torch.cat([classifier(part).argmax(1) for part in to_uint8(found).split(compared)])
                share = float((seen == labels[: len(seen)]).float().mean())
                error = rms(found[:compared] - exact)
                print(f"| {spacing} | {solver} | {steps} | {error:.4f} | {share:.1%} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Errors of the solvers.")
    parser.add_argument("--trained", action="store_true", help="on the network of the embedded kit")
    torch.set_num_threads(1)
    if parser.parse_args().trained:
        trained_rows()
        return
    truth = draw_mixture(SAMPLES, 3)
    start = torch.randn(SAMPLES, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    print(
        "| solver | levels | order, theory | measured | steps | evaluations | end-point error | energy distance |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for solver in SOLVERS:
        for spacing in SPACINGS.get(solver, ("trailing", "karras")):
            for steps in (10, 20):
                print(row(solver, spacing, steps, start, truth), flush=True)
    print(
        f"\nEnergy distance of two independent sets of {SAMPLES} true samples: "
        f"{energy_distance(draw_mixture(SAMPLES, 4), truth):.4f}"
    )


if __name__ == "__main__":
    main()
