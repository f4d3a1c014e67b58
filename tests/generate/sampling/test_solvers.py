"""Solvers on a Gaussian mixture whose denoiser is exact, guidance, and noise schedules against the stock ones."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from ppcore.errors import UserError
from ppgen.sampling import schedules
from ppgen.sampling.solvers import SOLVERS, Guidance, consistency, evaluations
from ppgen.sampling.solvers import Path as NoisePath

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "solvers.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("solver_benchmark", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    torch.set_num_threads(1)
    return module


@pytest.mark.parametrize(
    ("solver", "order"),
    [("ddim", 1), ("flow_euler", 1), ("heun", 2), ("flow_heun", 2), ("dpmpp_2m", 2)],
)
def test_order_of_convergence_is_the_theory_s(bench: ModuleType, solver: str, order: int) -> None:
    assert bench.order(solver, samples=16) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_every_solver_reaches_the_mixture(bench: ModuleType, solver: str) -> None:
    spacing = bench.SPACINGS.get(solver, ("trailing",))[0]
    path = bench.full_path(solver, 20 if solver == "consistency" else 60, spacing)
    start = path.sigmas[0] * torch.randn(
        500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    ends = bench.solve(solver, path, start)
    assert bench.energy_distance(ends, bench.draw_mixture(500, 1)) < 0.1
    assert (
        bench.energy_distance(start / path.sigmas[0], bench.draw_mixture(500, 1)) > 0.15
    )  # the test can fail


def test_stochastic_solvers_draw_a_fixed_number_of_times(bench: ModuleType) -> None:
    x = torch.zeros(1, 2, dtype=torch.float64)
    for solver, draws in (("ddpm", 4), ("consistency", 4), ("ddim", 0)):
        calls = []

        def draw(calls: list[int] = calls) -> torch.Tensor:
            calls.append(1)
            return torch.zeros_like(x)

        path = bench.full_path(solver, 5, "edm" if solver == "consistency" else "trailing")
        SOLVERS[solver](bench.Mixture(path).denoise, x, path, draw)
        assert len(calls) == draws


def test_evaluations_lists_what_a_solver_asks_for(bench: ModuleType) -> None:
    for solver in SOLVERS:
        path = bench.full_path(solver, 4, bench.SPACINGS.get(solver, ("trailing",))[0])
        asked: list[int] = []
        mixture = bench.Mixture(path)

        def denoise(
            x: torch.Tensor,
            level: int,
            asked: list[int] = asked,
            mixture: object = mixture,
        ) -> tuple[torch.Tensor, torch.Tensor]:
            asked.append(level)
            return mixture.denoise(x, level)  # type: ignore[attr-defined]

        x = torch.randn(2, 2, dtype=torch.float64)
        SOLVERS[solver](denoise, x, path, lambda x=x: torch.zeros_like(x))
        assert asked == evaluations(solver, 4)


def test_consistency_returns_the_last_estimate_without_noise() -> None:
    path = NoisePath((1.0, 1.0, 1.0), (80.0, 1.0, 0.002))
    seen: list[float] = []

    def denoise(x: torch.Tensor, level: int) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(float(x))
        return torch.tensor(float(level)), x

    end = consistency(denoise, torch.tensor(80.0), path, lambda: torch.tensor(1.0))
    assert float(end) == 1.0
    assert seen == pytest.approx([80.0, math.sqrt(1 - 0.002**2)])


def test_trailing_levels_start_at_the_noisiest_step_and_equal_the_stock_ones() -> None:
    from diffusers import DDIMScheduler

    stock = DDIMScheduler(timestep_spacing="trailing")
    for steps in (1, 4, 7, 20, 50, 1000):
        stock.set_timesteps(steps)
        ours = schedules.discrete(stock.alphas_cumprod, steps)
        assert list(ours.timesteps) == stock.timesteps.tolist()
        assert ours.timesteps[0] == 999
        assert ours.path.sigmas[-1] == 0.0


def test_leading_levels_equal_the_stock_ones() -> None:
    from diffusers import DDIMScheduler

    stock = DDIMScheduler(timestep_spacing="leading")
    stock.set_timesteps(20)
    assert (
        list(schedules.discrete(stock.alphas_cumprod, 20, spacing="leading").timesteps)
        == stock.timesteps.tolist()
    )


def test_karras_levels_span_the_schedule() -> None:
    from diffusers import DDIMScheduler

    ours = schedules.discrete(DDIMScheduler().alphas_cumprod, 10, spacing="karras")
    assert ours.timesteps[0] == pytest.approx(999)
    assert ours.timesteps[-1] == pytest.approx(0, abs=1e-6)
    assert list(ours.timesteps) == sorted(ours.timesteps, reverse=True)
    for alpha, sigma in zip(ours.path.alphas, ours.path.sigmas, strict=True):
        assert alpha**2 + sigma**2 == pytest.approx(1)


def test_flow_levels_waste_no_evaluation_at_the_end() -> None:
    ours = schedules.flow(4)
    assert ours.timesteps == (1000.0, 750.0, 500.0, 250.0)
    assert ours.path.sigmas == (1.0, 0.75, 0.5, 0.25, 0.0)
    shifted = schedules.flow(2, shift=3.0).path.sigmas
    assert shifted == pytest.approx((1.0, 0.75, 0.0))


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_every_prediction_reads_back_clean_and_noise(prediction: str) -> None:
    from diffusers import DDIMScheduler

    schedule = schedules.discrete(DDIMScheduler().alphas_cumprod.double(), 10, prediction=prediction)
    clean, noise = torch.randn(2, 3, 3, dtype=torch.float64).unbind(0)
    for i in range(10):
        alpha, sigma = schedule.path.alphas[i], schedule.path.sigmas[i]
        output = {"epsilon": noise, "sample": clean, "v_prediction": alpha * noise - sigma * clean}[
            prediction
        ]
        read = schedule.read(alpha * clean + sigma * noise, output, i)
        torch.testing.assert_close(read[0], clean)
        torch.testing.assert_close(read[1], noise)


def test_flow_output_reads_back_clean_and_noise() -> None:
    schedule = schedules.flow(3)
    clean, noise = torch.randn(2, 3, 3, dtype=torch.float64).unbind(0)
    for i, sigma in enumerate(schedule.path.sigmas[:-1]):
        read = schedule.read((1 - sigma) * clean + sigma * noise, noise - clean, i)
        torch.testing.assert_close(read[0], clean)
        torch.testing.assert_close(read[1], noise)


def test_edm_levels_and_scalings_equal_the_stock_ones() -> None:
    from diffusers import EDMEulerScheduler

    stock = EDMEulerScheduler()
    stock.set_timesteps(8)
    ours = schedules.edm(8)
    torch.testing.assert_close(torch.tensor(ours.path.sigmas), stock.sigmas, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.tensor(ours.timesteps), stock.timesteps, rtol=1e-5, atol=1e-6)
    x, output = torch.randn(2, 5).unbind(0)
    for i in range(8):
        sigma = stock.sigmas[i]
        torch.testing.assert_close(ours.scale_in[i] * x, stock.precondition_inputs(x, sigma))
        torch.testing.assert_close(
            ours.read(x, output, i)[0], stock.precondition_outputs(x, output, sigma), rtol=1e-4, atol=1e-5
        )


def test_unknown_spacing_and_too_many_steps_are_refused() -> None:
    alphas = torch.linspace(0.99, 0.01, 10)
    with pytest.raises(UserError, match="spacing"):
        schedules.discrete(alphas, 5, spacing="backwards")
    with pytest.raises(UserError, match="11 sampling steps"):
        schedules.discrete(alphas, 11)
    with pytest.raises(UserError, match="score"):
        schedules.discrete(alphas, 5, prediction="score")


def test_guidance_acts_inside_its_interval_only() -> None:
    guidance = Guidance(1.5, (0.28, 5.42))
    assert [guidance.active(r) for r in (0.28, 0.281, 5.42, 5.43, math.inf)] == [
        False,
        True,
        True,
        False,
        False,
    ]
    assert not Guidance(1.0, None).active(1.0)
    assert Guidance(2.0, None).active(math.inf)


def test_guidance_combines_the_leading_channels() -> None:
    conditional, unconditional = torch.ones(1, 4, 1, 1), torch.zeros(1, 4, 1, 1)
    assert Guidance(3.0).combine(conditional, unconditional).flatten().tolist() == [3, 3, 3, 3]
    assert Guidance(3.0, channels=3).combine(conditional, unconditional).flatten().tolist() == [3, 3, 3, 1]


@pytest.mark.parametrize("kind", ["edm", "discrete"])
def test_ancestral_steps_keep_the_variance_of_the_noise(kind: str) -> None:
    """Data that is all zero: with an exact denoiser x has the variance sigma^2 at every level, on any path; and it is drawn."""
    if kind == "edm":
        path = schedules.edm(12).path
    else:
        path = schedules.discrete(torch.linspace(0.9999, 0.01, 1000), 12).path
    generator, draws = torch.Generator().manual_seed(0), 0
    x = path.sigmas[0] * torch.randn(40_000, generator=generator, dtype=torch.float64)

    def draw() -> torch.Tensor:
        nonlocal draws
        draws += 1
        return torch.randn(40_000, generator=generator, dtype=torch.float64)

    for i in range(11):
        step = NoisePath(path.alphas[i : i + 2], path.sigmas[i : i + 2])
        x = SOLVERS["ddpm"](lambda y, _, s=path.sigmas[i]: (torch.zeros_like(y), y / s), x, step, draw)
        assert float(x.std()) == pytest.approx(path.sigmas[i + 1], rel=0.02)
    assert draws == 11


def test_ancestral_noise_is_the_papers_on_variance_preserving_paths() -> None:
    path = schedules.discrete(torch.linspace(0.9999, 0.01, 1000), 20).path
    zero = torch.zeros(1, dtype=torch.float64)
    for i in range(19):
        step = NoisePath(path.alphas[i : i + 2], path.sigmas[i : i + 2])
        found = SOLVERS["ddpm"](lambda x, _: (zero, zero), zero, step, lambda: zero + 1)
        old = step.sigmas[1] / step.sigmas[0] * math.sqrt(1 - (step.alphas[0] / step.alphas[1]) ** 2)
        assert float(found) == pytest.approx(old, rel=1e-9)
