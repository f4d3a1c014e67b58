"""The scheduler of a diffusers directory -> the noise schedule that our solvers run on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ppcore.errors import UserError
from ppgen.generators.parts.diffusion import DiffusionOptions
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
_FLOW_SOLVERS = ("flow_euler", "flow_heun", "dpmpp_2m")
_DIFFUSION_SOLVERS = ("dpmpp_2m", "ddim", "ddpm", "heun")
_SOLVERS: dict[str, tuple[str, ...]] = {
    "FlowMatchEulerDiscreteScheduler": _FLOW_SOLVERS,
    "FlowMatchHeunDiscreteScheduler": ("flow_heun", *(s for s in _FLOW_SOLVERS if s != "flow_heun")),
    "CMStochasticIterativeScheduler": ("consistency",),
    "EDMEulerScheduler": ("heun", *(s for s in _DIFFUSION_SOLVERS if s != "heun")),
    "EDMDPMSolverMultistepScheduler": _DIFFUSION_SOLVERS,
    **dict.fromkeys(_DISCRETE, _DIFFUSION_SOLVERS),
}
"""Class of a scheduler -> the solvers that fit its models, the default first."""
_UNREAD = {"thresholding": False, "use_flow_sigmas": False, "timestep_type": "discrete"}
"""Arguments that say what the network takes or returns, and their only supported values. Other unread ones choose levels or steps."""


@dataclass(frozen=True)
class Scheduler:
    """A scheduler directory of diffusers.

    Attributes:
        kind: name of the scheduler's class, a key of `_SOLVERS`. It says how the model was trained; the solver is ours.
        config: arguments of that class.
    """

    kind: str
    config: dict[str, Any]

    @property
    def solver(self) -> str:
        """The default solver."""
        return _SOLVERS[self.kind][0]

    def schedule(self, options: DiffusionOptions, *, clip: bool) -> schedules.Schedule:
        """The noise schedule of the model, at the levels that the options ask for.

        Args:
            clip: whether the model makes pixels, so that the scheduler's clipping of clean estimates applies.

        Raises:
            UserError: a solver that does not fit the model, or a model that works in a way that is not supported.
        """
        get = self.config.get
        for name, plain in _UNREAD.items():
            if self.config.get(name, plain) != plain:
                raise UserError(
                    f"the scheduler has {name}={self.config[name]}, which is not supported; expected {plain}; use another model, or "
                    "change its scheduler_config.json if the network does not depend on it"
                )
        if options.solver not in _SOLVERS[self.kind]:
            raise UserError(
                f"solver {options.solver!r} does not fit a model with {self.kind}; choose {', '.join(_SOLVERS[self.kind])}"
            )
        if self.kind.startswith("FlowMatch"):
            return schedules.flow(
                options.steps,
                shift=get("shift", 1.0),
                train_timesteps=get("num_train_timesteps", 1000),
                inverted=bool(get("invert_sigmas")),
            )
        if self.kind.startswith("EDM"):
            names = ("sigma_min", "sigma_max", "sigma_data", "rho")
            given = {name: float(self.config[name]) for name in names if name in self.config}
            negated = get("prediction_type", "epsilon") == "v_prediction"
            return schedules.edm(options.steps, **given, negated=negated)
        if self.kind == "CMStochasticIterativeScheduler":
            return self._consistency(options)
        return self._discrete(options, clip)

    def _discrete(self, options: DiffusionOptions, clip: bool) -> schedules.Schedule:
        import diffusers  # takes seconds, and only these families need it

        get = self.config.get
        # DDIM's class computes the same betas from the same arguments as every other discrete scheduler.
        names = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas")
        given = {n: self.config[n] for n in (*names, "rescale_betas_zero_snr") if n in self.config}
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

    def _consistency(self, options: DiffusionOptions) -> schedules.Schedule:
        get = self.config.get
        total = int(get("num_train_timesteps", 40))
        levels = options.levels or tuple(i * (total // options.steps) for i in range(options.steps))
        if list(levels) != sorted(set(levels)) or not 0 <= levels[0] <= levels[-1] < total:
            raise UserError(
                f"sampling option levels={list(levels)} must rise within 0 to {total - 1}, 0 being the noisiest"
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


def load_scheduler(folder: Path) -> Scheduler:
    """The scheduler of a directory. Raises UserError when it is missing or of an unknown class."""
    config = read_config(folder / "scheduler_config.json", dict[str, Any])
    kind = str(config.get("_class_name"))
    if kind not in _SOLVERS:
        raise UserError(
            f"{folder} holds the scheduler {kind}, which is not supported; expected {', '.join(_SOLVERS)}"
        )
    return Scheduler(kind, config)
