"""The scheduler of a diffusers directory -> the noise schedule our solvers run on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ppcore.errors import UserError
from ppgen.generators.parts.options import DiffusionOptions
from ppgen.sampling import schedules
from ppgen.sources import read_config

_DISCRETE = (
    "DDIMScheduler",
    "DDPMScheduler",
    "PNDMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
    "DEISMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
)
_DEFAULT_SOLVER = {
    "FlowMatchEulerDiscreteScheduler": "flow_euler",
    "FlowMatchHeunDiscreteScheduler": "flow_heun",
    "CMStochasticIterativeScheduler": "consistency",
    "EDMEulerScheduler": "heun",
    "EDMDPMSolverMultistepScheduler": "dpmpp_2m",
    **dict.fromkeys(_DISCRETE, "dpmpp_2m"),
}
_FLOW_SOLVERS = ("flow_euler", "flow_heun", "dpmpp_2m", "unipc")
_DIFFUSION_SOLVERS = ("ddim", "ddpm", "dpmpp_2m", "unipc", "heun")


@dataclass(frozen=True)
class SchedulerConfig:
    """A scheduler directory: its class, the arguments of that class, and the solver we use unless told otherwise."""

    kind: str
    config: dict[str, Any]
    solver: str


def load_scheduler(folder: Path) -> SchedulerConfig:
    """The scheduler's configuration. Raises UserError when it is missing or of an unknown class."""
    config = read_config(folder / "scheduler_config.json", dict[str, Any])
    kind = str(config.get("_class_name"))
    if kind not in _DEFAULT_SOLVER:
        raise UserError(
            f"{folder} holds a {kind}, which no solver here reads; expected {', '.join(_DEFAULT_SOLVER)}"
        )
    return SchedulerConfig(kind, config, _DEFAULT_SOLVER[kind])


def schedule_for(scheduler: SchedulerConfig, options: DiffusionOptions, *, clip: bool) -> schedules.Schedule:
    """The noise schedule of a model, at the levels the options ask for.

    Args:
        clip: whether the model makes pixels, so that the scheduler's clipping of clean estimates applies.

    Raises:
        UserError: a solver that does not fit the model, dynamic thresholding.
    """
    get = scheduler.config.get
    if get("thresholding"):
        raise UserError(
            "the scheduler asks for dynamic thresholding, which is not supported; set thresholding to false in its config"
        )
    if scheduler.kind.startswith("FlowMatch"):
        _require(options.solver, _FLOW_SOLVERS, scheduler.kind)
        return schedules.flow(
            options.steps, shift=get("shift", 1.0), train_timesteps=get("num_train_timesteps", 1000)
        )
    if scheduler.kind.startswith("EDM"):
        _require(options.solver, _DIFFUSION_SOLVERS, scheduler.kind)
        names = ("sigma_min", "sigma_max", "sigma_data", "rho")
        given = {name: float(scheduler.config[name]) for name in names if name in scheduler.config}
        return schedules.edm(
            options.steps, **given, negated=get("prediction_type", "epsilon") == "v_prediction"
        )
    if scheduler.kind == "CMStochasticIterativeScheduler":
        _require(options.solver, ("consistency",), scheduler.kind)
        return _consistency(scheduler, options)
    _require(options.solver, _DIFFUSION_SOLVERS, scheduler.kind)
    return _discrete(scheduler, options, clip)


def _discrete(scheduler: SchedulerConfig, options: DiffusionOptions, clip: bool) -> schedules.Schedule:
    import diffusers  # heavy: seconds, and only these families need it

    get = scheduler.config.get
    # DDIM's class computes the same betas from the same arguments as every other discrete scheduler.
    names = (
        "num_train_timesteps",
        "beta_start",
        "beta_end",
        "beta_schedule",
        "trained_betas",
        "rescale_betas_zero_snr",
    )
    given = {name: scheduler.config[name] for name in names if name in scheduler.config}
    try:
        cumulated: torch.Tensor = diffusers.DDIMScheduler(**given).alphas_cumprod  # type: ignore[attr-defined]
    except NotImplementedError as error:
        raise UserError(
            f"the scheduler's noise schedule is not supported ({error}); use another model"
        ) from error
    if options.solver == "heun" and float(cumulated[-1]) == 0.0:
        raise UserError(
            "solver 'heun' cannot start from noise without any signal, as this model does; use dpmpp_2m or ddim"
        )
    ends_early = options.solver in ("ddim", "ddpm") and not get("set_alpha_to_one", True)
    return schedules.discrete(
        cumulated,
        options.steps,
        spacing=options.spacing,
        prediction=get("prediction_type", "epsilon"),
        final_alpha=float(cumulated[0]) if ends_early else 1.0,
        clip=float(get("clip_sample_range", 1.0)) if clip and get("clip_sample", False) else None,
    )


def _consistency(scheduler: SchedulerConfig, options: DiffusionOptions) -> schedules.Schedule:
    get = scheduler.config.get
    total = int(get("num_train_timesteps", 40))
    levels = options.levels or tuple(i * (total // options.steps) for i in range(options.steps))
    if list(levels) != sorted(set(levels)) or not 0 <= levels[0] <= levels[-1] < total:
        raise UserError(
            f"consistency levels {list(levels)} must rise within 0 to {total - 1}, 0 being the noisiest"
        )
    return schedules.consistency_levels(
        levels,
        train_timesteps=total,
        sigma_min=get("sigma_min", 0.002),
        sigma_max=get("sigma_max", 80.0),
        sigma_data=get("sigma_data", 0.5),
        rho=get("rho", 7.0),
        clip=1.0 if get("clip_denoised", True) else None,
    )


def _require(solver: str, allowed: tuple[str, ...], kind: str) -> None:
    if solver not in allowed:
        raise UserError(f"solver {solver!r} does not fit a model with {kind}; choose {', '.join(allowed)}")
