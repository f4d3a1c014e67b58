"""The sampling loop that every diffusion family shares: conditions and seeds in, uint8 images out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Protocol

import torch

from ppcore.errors import UserError
from ppgen.generators.parts.compilation import Compilation
from ppgen.generators.parts.labels import check_condition, fit_names
from ppgen.generators.parts.noise import noise_of, unless_default
from ppgen.generators.parts.options import DiffusionOptions
from ppgen.generators.parts.pixels import FloatSampler
from ppgen.sampling import SOLVERS, Schedule, evaluations
from ppgen.sources import Source


class Network(Protocol):
    """A denoising network with its class embedding opened for soft labels.

    Attributes:
        shape: (C, H, W) of what it denoises.
        has_null: whether it knows the null label, so that it can be guided.
    """

    shape: tuple[int, int, int]
    has_null: bool

    def embed(self, condition: torch.Tensor) -> Any:
        """Whatever the network derives from float (B, K) conditions, once a batch."""
        ...

    def predict(self, x: torch.Tensor, level: int, embedded: Any, guided: bool) -> torch.Tensor:
        """Output at `level` of the schedule for x (B, C, H, W), the same shape; for guided ones (2B, C, H, W), the
        conditional half first."""
        ...


Decode = Callable[[torch.Tensor], torch.Tensor]


class DiffusionGenerator(FloatSampler):
    """A generator made of a network, a schedule, a solver and a decoder (see :class:`ppgen.sources.protocol.Generator`).

    Args:
        decode: what the solver returns, float32 (B, C, H, W) -> images in [-1, 1].
        compilation: of the network and the decoder.
        details: what :meth:`describe` adds.

    Attributes:
        decode_batch: images that `decode` works on at a time.
    """

    def __init__(
        self,
        source: Source,
        network: Network,
        schedule: Schedule,
        options: DiffusionOptions,
        decode: Decode,
        *,
        num_classes: int,
        class_names: tuple[str, ...],
        image_shape: tuple[int, int, int],
        device: torch.device,
        compilation: Compilation,
        details: dict[str, Any],
    ) -> None:
        self.guidance = options.make_guidance()
        if self.guidance.scale != 1.0 and not network.has_null:
            raise UserError(
                f"{source.spec} has no null label to guide with; use the sampling option guidance=1 (given: {options.guidance})"
            )
        self.num_classes = num_classes
        self.class_names = fit_names(class_names, num_classes, source.spec)
        self.channels, self.resolution, _ = image_shape
        self.licence, self.revision = source.licence, source.revision
        self.device, self.schedule, self.options = device, schedule, options
        self.compilation, self.decode_batch = compilation, options.decode_batch
        self._network, self._decode, self._solve = network, decode, SOLVERS[options.solver]
        self._details = {"family": source.family, **details}

    def sample_float(self, condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        """The images before rounding: float32 (B, C, H, W), nominally in [-1, 1]."""
        check_condition(condition, seeds, self.num_classes)
        shape = self._network.shape
        stream = noise_of(self.options.noise, seeds, self.device)

        def draw() -> torch.Tensor:
            return stream.randn(shape, device=self.device)

        with torch.inference_mode():
            embedded = self._network.embed(condition.to(self.device, non_blocking=True))

            def denoise(x: torch.Tensor, level: int) -> tuple[torch.Tensor, torch.Tensor]:
                return self.schedule.read(x, self._predict(x, level, embedded), level)

            x = self._solve(denoise, self.schedule.start * draw(), self.schedule.path, draw)
            return self._decode(x)

    def evaluations(self) -> int:
        """Network evaluations an image, a guided step counting as two."""
        levels = evaluations(self.options.solver, len(self.schedule.path))
        return sum(2 if self.guidance.active(self.schedule.path.ratio(i)) else 1 for i in levels)

    def describe(self) -> dict[str, Any]:
        """See :meth:`ppgen.sources.protocol.Generator.describe`."""
        options = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self.options).items()}
        del options["class_names"]  # the plan has them in full
        options["compile"] = self.compilation.mode
        return {**self._details, "sampling": unless_default(options)}

    def _predict(self, x: torch.Tensor, level: int, embedded: Any) -> torch.Tensor:
        guided = self.guidance.active(self.schedule.path.ratio(level))
        output = self._network.predict(self.schedule.scale_in[level] * x, level, embedded, guided).float()
        return self.guidance.combine(*output.chunk(2)) if guided else output
