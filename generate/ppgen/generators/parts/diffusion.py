"""The sampling loop of the diffusion families, and its options: conditions and seeds in, images out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch

from ppcore.errors import UserError
from ppcore.seeds import PerSampleNoise
from ppgen.generators.parts.family import FamilyGenerator, check_condition
from ppgen.generators.parts.networks import LatentDecoder, PixelDecoder
from ppgen.sampling import SOLVERS, Guidance, Schedule, guidance_levels
from ppgen.sources import Source


@dataclass(frozen=True)
class DiffusionOptions:
    """Sampling options of the diffusion families. A family replaces defaults that do not suit it.

    Attributes:
        solver: a key of :data:`ppgen.sampling.solvers.SOLVERS`.
        steps: steps of the solver.
        spacing: see :func:`ppgen.sampling.schedules.discrete`.
        guidance, guidance_interval, guidance_channels: see :class:`ppgen.sampling.solvers.Guidance`.
        levels: positions on the training grid, for consistency models; None spaces `steps` of them evenly.
        patch: the network sees images as patch x patch blocks stacked into channels.
        num_classes: K, where the model's files do not say it.
        class_names: K names where the source has none, or `imagenet`.
        keep_norm: scale the mixed class embedding of a soft label, see :func:`ppgen.generators.parts.family.embed`.
        decode_batch: images that the autoencoder decodes at a time.
        compile: `none`, `default` or `graphs`, see :func:`ppgen.generators.parts.networks.compile_network`.
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
    keep_norm: bool = False
    decode_batch: int = 32
    compile: str = "none"

    def __post_init__(self) -> None:
        for name in ("steps", "patch", "decode_batch"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise UserError(f"sampling option {name}={value!r} must be a whole number of at least 1")
        if self.solver not in SOLVERS:
            raise UserError(f"unknown solver {self.solver!r}; choose {', '.join(SOLVERS)}")
        if self.guidance_interval is not None and len(self.guidance_interval) != 2:
            raise UserError(
                f"sampling option guidance_interval={self.guidance_interval!r} must be two noise levels, low and high"
            )

    def make_guidance(self) -> Guidance:
        """The guidance that the options ask for."""
        interval = None
        if self.guidance_interval is not None:
            low, high = self.guidance_interval
            interval = (low, high)
        return Guidance(self.guidance, interval, self.guidance_channels)

    def planned(self) -> dict[str, Any]:
        """The options as a plan records them; it has the class names elsewhere."""
        values = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}
        del values["class_names"]
        return values


class Network(Protocol):
    """A denoising network whose class embedding accepts soft labels.

    Attributes:
        shape: (C, H, W) of what it denoises.
        has_null: whether it knows the null label, so that it can be guided.
        tables: class embeddings, (K or more, D) each.
    """

    shape: tuple[int, int, int]
    has_null: bool
    tables: Sequence[torch.Tensor]

    def embed(self, condition: torch.Tensor, keep_norm: bool = False) -> Any:
        """Whatever the network derives from float (B, K) conditions, once for each batch.

        Args:
            keep_norm: see :func:`ppgen.generators.parts.family.embed`.
        """
        ...

    def predict(self, x: torch.Tensor, level: int, embedded: Any, guided: bool) -> torch.Tensor:
        """The network's output at a level of the schedule.

        Args:
            x: (B, C, H, W).
            embedded: what :meth:`embed` returned.
            guided: also predict for the null label.

        Returns:
            (B, C, H, W); where guided (2B, C, H, W), the conditional half first.
        """
        ...


class DiffusionGenerator(FamilyGenerator):
    """A generator made of a network, a schedule, a solver and a decoder.

    Args:
        source, num_classes, class_names, device, dtype, weights: see :class:`FamilyGenerator`.

    Attributes:
        decode_batch: images that the decoder works on at a time.

    Raises:
        UserError: guidance without a null label, or a wrong number of class names.
    """

    def __init__(
        self,
        source: Source,
        network: Network,
        schedule: Schedule,
        options: DiffusionOptions,
        decoder: LatentDecoder | PixelDecoder,
        *,
        num_classes: int,
        class_names: tuple[str, ...],
        device: torch.device,
        dtype: torch.dtype,
        weights: Sequence[str],
    ) -> None:
        self.guidance = options.make_guidance()
        if self.guidance.scale != 1.0 and not network.has_null:
            raise UserError(
                f"{source.spec} has no null label, so it cannot be guided; "
                f"set the sampling option guidance=1 (given: {options.guidance}), or num_classes if the last row of its class table is "
                "the null label"
            )
        super().__init__(
            source,
            image_shape=decoder.image_shape(network.shape),
            num_classes=num_classes,
            class_names=class_names,
            sampling=options.planned(),
            device=device,
            dtype=dtype,
            weights=weights,
        )
        self.schedule, self.decode_batch, self.compile_mode = schedule, options.decode_batch, options.compile
        self.class_tables = network.tables
        self._network, self._decoder, self._solver = network, decoder, options.solver

    def sample_float(self, condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        """See :meth:`FamilyGenerator.sample_float`; float32."""
        check_condition(condition, seeds, self.num_classes)
        noise = PerSampleNoise(seeds)

        def draw() -> torch.Tensor:
            return noise.randn(self._network.shape, device=self.device)

        with torch.inference_mode():
            embedded = self._network.embed(condition.to(self.device), self.keep_norm)
            guided = iter(self._guided())

            def denoise(x: torch.Tensor, level: int) -> tuple[torch.Tensor, torch.Tensor]:
                return self.schedule.read(x, self._predict(x, level, embedded, next(guided)), level)

            x = SOLVERS[self._solver](denoise, self.schedule.start * draw(), self.schedule.path, draw)
            return self._decoder(x)

    def evaluations(self) -> int:
        """Network evaluations for one image; a guided step counts as two."""
        return sum(2 if guided else 1 for guided in self._guided())

    def _guided(self) -> list[bool]:
        """Which evaluations of the network are guided, in order."""
        path = self.schedule.path
        return [self.guidance.active(path.ratio(i)) for i in guidance_levels(self._solver, len(path))]

    def _predict(self, x: torch.Tensor, level: int, embedded: Any, guided: bool) -> torch.Tensor:
        output = self._network.predict(self.schedule.scale_in[level] * x, level, embedded, guided).float()
        return self.guidance.combine(*output.chunk(2)) if guided else output
