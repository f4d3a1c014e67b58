"""The sampling options of the diffusion families."""

from __future__ import annotations

from dataclasses import dataclass

from ppcore.errors import UserError
from ppgen.generators.parts.noise import check_noise
from ppgen.sampling import SOLVERS, Guidance


@dataclass(frozen=True)
class DiffusionOptions:
    """Sampling options of the diffusion families; each family has its own defaults.

    Attributes:
        solver: a key of :data:`ppgen.sampling.solvers.SOLVERS`.
        steps: steps of the solver.
        spacing: see :func:`ppgen.sampling.schedules.discrete`.
        guidance, guidance_interval, guidance_channels: see :class:`ppgen.sampling.guidance.Guidance`.
        levels: places on the training grid, for consistency models; None spaces `steps` of them evenly.
        patch: images are handed to the network as patch x patch blocks stacked into channels.
        num_classes: K, where the model's files leave it open.
        class_names: K names where the source has none, or `imagenet`.
        decode_batch: images the autoencoder decodes at a time.
        compile: `none`, `default`, `graphs`, or `auto`: see :mod:`ppgen.generators.parts.compilation`.
        noise: see :data:`ppgen.generators.parts.noise.Noise`.
    """

    solver: str = "ddim"
    steps: int = 20
    spacing: str = "trailing"
    guidance: float = 1.5
    guidance_interval: tuple[float, ...] | None = (0.28, 2.0)
    guidance_channels: int | None = None
    levels: tuple[int, ...] | None = None
    patch: int = 1
    num_classes: int | None = None
    class_names: tuple[str, ...] | str = ()
    decode_batch: int = 32
    compile: str = "auto"
    noise: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("steps", "patch", "decode_batch"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise UserError(f"sampling option {name}={value!r} must be a whole number of at least 1")
        check_noise(self.noise)
        if self.solver not in SOLVERS:
            raise UserError(f"unknown solver {self.solver!r}; choose {', '.join(SOLVERS)}")
        if self.guidance_interval is not None and len(self.guidance_interval) != 2:
            raise UserError(
                f"sampling option guidance_interval={self.guidance_interval!r} must be two noise levels, low and high"
            )

    def make_guidance(self) -> Guidance:
        interval = None
        if self.guidance_interval is not None:
            low, high = self.guidance_interval
            interval = (low, high)
        return Guidance(self.guidance, interval, self.guidance_channels)
