"""BigGAN-deep 128, 256 and 512 from a directory with the published `config.json` and `pytorch_model.bin`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ppcore.classifiers import read_weights
from ppcore.errors import UserError
from ppcore.philox import PhiloxNoise
from ppgen.generators.biggan.network import CUT, BigGANConfig, BigGANNetwork, build, truncated_normal
from ppgen.generators.parts.compilation import Compilation
from ppgen.generators.parts.labels import check_condition, choose_names, embed, fit_names
from ppgen.generators.parts.noise import check_noise, noise_of, unless_default
from ppgen.generators.parts.pixels import FloatSampler
from ppgen.sources import Generator, Source, read_config, read_options, weights_sha256

_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class BigGANOptions:
    """Sampling options.

    Attributes:
        truncation: scale of the noise, in (0, 1]; 1 keeps all the variety, which training data wants.
        class_names: K names where the source has none, or `imagenet`.
        compile: `none`, `default`, `graphs`, or `auto`: see :mod:`ppgen.generators.parts.compilation`.
        noise: see :data:`ppgen.generators.parts.noise.Noise`.
    """

    truncation: float = 1.0
    class_names: tuple[str, ...] | str = ()
    compile: str = "auto"
    noise: str = "cpu"


class BigGANGenerator(FloatSampler):
    """See :class:`ppgen.sources.protocol.Generator`."""

    channels = 3

    def __init__(
        self,
        source: Source,
        network: BigGANNetwork,
        table: torch.Tensor,
        options: BigGANOptions,
        details: dict[str, Any],
    ) -> None:
        config = network.config
        self.num_classes, self.resolution = config.num_classes, config.output_dim
        self.class_names = fit_names(
            choose_names(options.class_names, source.class_names), config.num_classes, source.spec
        )
        self.licence, self.revision = source.licence, source.revision
        self.device = table.device
        self._table, self._options, self._z_dim = table, options, config.z_dim
        self._details = {"family": source.family, **details}
        self.compilation = Compilation(options.compile, self.device)
        self._forward = self.compilation.wrap(network)

    def sample_float(self, condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        """The images before rounding: float32 (B, 3, R, R) in [-1, 1]."""
        check_condition(condition, seeds, self.num_classes)
        with torch.inference_mode():
            condition = condition.to(self.device, non_blocking=True)
            return self._forward(self._noise(seeds).to(self._table), embed(self._table, condition)).float()

    def _noise(self, seeds: torch.Tensor) -> torch.Tensor:
        """float32 (B, z_dim): truncation times a normal cut off at +-2."""
        stream = noise_of(self._options.noise, seeds, self.device)
        if isinstance(stream, PhiloxNoise):
            return self._options.truncation * stream.randn((self._z_dim,), cut=CUT)
        return truncated_normal(stream.randn((self._z_dim,)), self._options.truncation)

    def describe(self) -> dict[str, Any]:
        """See :meth:`ppgen.sources.protocol.Generator.describe`."""
        # The plan has the names in full.
        options = asdict(replace(self._options, class_names=(), compile=self.compilation.mode))
        return {**self._details, "sampling": unless_default(options)}


def load(source: Source, device: torch.device, dtype: torch.dtype) -> Generator:
    """A generator from the published files.

    Raises:
        UserError: files missing, damaged or not fitting each other, truncation outside (0, 1].
    """
    options = read_options(BigGANOptions, source)
    if not 0 < options.truncation <= 1:
        raise UserError(f"truncation {options.truncation} is outside (0, 1]; 1 gives the most varied images")
    check_noise(options.noise)
    folder = Path(source.location)
    config = BigGANConfig.from_dict(read_config(folder / "config.json", dict[str, Any]))
    file = next((folder / name for name in _FILES if (folder / name).is_file()), folder / _FILES[-1])
    state = read_weights(file)
    if "embeddings.weight" not in state:
        raise UserError(f"{file} has no class embedding; expected BigGAN-deep's published state dict")
    network = build(config, state, options.truncation, str(file))
    network = network.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    table = state["embeddings.weight"].T.to(
        device, dtype
    )  # (K, z_dim): the linear layer without bias is a table
    details = {
        "weights_sha256": weights_sha256(folder, file.name),
        "dtype": str(dtype).removeprefix("torch."),
    }
    return BigGANGenerator(source, network, table, options, details)
