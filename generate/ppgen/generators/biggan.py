"""BigGAN-deep (Brock et al. 2019), the paper's generator: 128, 256 and 512 pixels, from a directory with the published `config.json`
and `pytorch_model.bin`.

The network is rearranged for inference. Against the published module: spectral norm is folded into the weights; a batch norm with
its standing statistics and its class-dependent gain and bias is one multiply-add, whose factors for all layers together are one
affine map of the condition; up-sampling is folded into the convolution after it; the last convolution computes only the three
colour channels.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from ppcore.classifiers import read_weights
from ppcore.errors import UserError
from ppcore.seeds import PerSampleNoise
from ppgen.generators.parts.convolution import UpsampleConv
from ppgen.generators.parts.family import FamilyGenerator, check_condition, choose_names, embed
from ppgen.generators.parts.networks import compile_network
from ppgen.generators.parts.published import State, require_shapes
from ppgen.sources import Generator, Source, read_config, read_options

_FILES = ("model.safetensors", "pytorch_model.bin")
_DERIVED = ("factors.", "gain", "shift", "conv_to_rgb.")  # weights that :func:`build` computes
_CUT = 2.0  # the models were trained with normal noise that is cut off at this many standard deviations
_NORMS = ("bn_0", "bn_1", "bn_2", "bn_3")
_DEEP_128 = (
    (False, 16, 16),
    (True, 16, 16),
    (False, 16, 16),
    (True, 16, 8),
    (False, 8, 8),
    (True, 8, 4),
    (False, 4, 4),
    (True, 4, 2),
    (False, 2, 2),
    (True, 2, 1),
)


@dataclass(frozen=True)
class BigGANConfig:
    """The fields of the published config.json that are used. The defaults are those of the 128x128 model.

    Attributes:
        layers: (upsample, input width, output width) of every block, widths in units of channel_width.
        attention_layer_position: number of the block that the attention layer precedes.
        n_stats: truncation levels from 0 to 1 with standing statistics.
    """

    output_dim: int = 128
    z_dim: int = 128
    class_embed_dim: int = 128
    channel_width: int = 128
    num_classes: int = 1000
    layers: tuple[tuple[bool, int, int], ...] = _DEEP_128
    attention_layer_position: int = 8
    eps: float = 1e-4
    n_stats: int = 51

    @property
    def condition_dim(self) -> int:
        """Width of noise and class embedding side by side, as the published module computes it."""
        return 2 * self.z_dim


class Attention(nn.Module):
    """Self-attention on feature maps, keys and values pooled 2x2 (Zhang et al. 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.snconv1x1_theta = nn.Conv2d(width, width // 8, 1, bias=False)
        self.snconv1x1_phi = nn.Conv2d(width, width // 8, 1, bias=False)
        self.snconv1x1_g = nn.Conv2d(width, width // 2, 1, bias=False)
        self.snconv1x1_o_conv = nn.Conv2d(width // 2, width, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, C, H, W)
        b, _, h, w = x.shape
        query = self.snconv1x1_theta(x).flatten(2).transpose(1, 2)  # (B, HW, C/8)
        key = F.max_pool2d(self.snconv1x1_phi(x), 2).flatten(2).transpose(1, 2)  # (B, HW/4, C/8)
        value = F.max_pool2d(self.snconv1x1_g(x), 2).flatten(2).transpose(1, 2)  # (B, HW/4, C/2)
        mixed = F.scaled_dot_product_attention(query, key, value, scale=1.0)  # (B, HW, C/2)
        return x + self.gamma * self.snconv1x1_o_conv(mixed.transpose(1, 2).reshape(b, -1, h, w))


class Block(nn.Module):
    """Bottleneck residual block. Where the width shrinks, the skip connection drops channels."""

    def __init__(self, width: int, out_width: int, upsample: bool) -> None:
        super().__init__()
        middle = width // 4
        self.upsample, self.out_width = upsample, out_width
        self.norm_widths = (width, middle, middle, middle)
        self.conv_0 = nn.Conv2d(width, middle, 1)
        self.conv_1: nn.Module = nn.Conv2d(middle, middle, 3, padding=1)
        self.conv_2 = nn.Conv2d(middle, middle, 3, padding=1)
        self.conv_3 = nn.Conv2d(middle, out_width, 1)

    def forward(self, x: torch.Tensor, factors: list[torch.Tensor]) -> torch.Tensor:
        """
        Args:
            x: (B, C, H, W).
            factors: gain and bias of the four norms, eight of (B, C', 1, 1).

        Returns:
            (B, out_width, H, W), with twice the side where the block up-samples.
        """
        y = self.conv_0(F.relu(torch.addcmul(factors[1], x, factors[0])))
        y = F.relu(torch.addcmul(factors[3], y, factors[2]))
        y = self.conv_1(y)  # doubles the side where the block does
        y = self.conv_2(F.relu(torch.addcmul(factors[5], y, factors[4])))
        y = self.conv_3(F.relu(torch.addcmul(factors[7], y, factors[6])))
        skip = x[:, : self.out_width]
        if self.upsample:
            skip = F.interpolate(skip, scale_factor=2, mode="nearest")
        return y + skip


class BigGANNetwork(nn.Module):
    """(noise (B, z_dim), class embedding (B, z_dim)) -> images (B, 3, R, R) in [-1, 1].

    Make it with :func:`build`; the constructor loads no weights.
    """

    gain: torch.Tensor
    shift: torch.Tensor

    def __init__(self, config: BigGANConfig) -> None:
        super().__init__()
        self.config = config
        width = config.channel_width
        self.gen_z = nn.Linear(config.condition_dim, 16 * 16 * width)
        layers: list[nn.Module] = []
        for i, (upsample, a, b) in enumerate(config.layers):
            if i == config.attention_layer_position:
                layers.append(Attention(width * a))
            layers.append(Block(width * a, width * b, upsample))
        self.layers = nn.ModuleList(layers)
        widths = [w for layer in layers if isinstance(layer, Block) for w in layer.norm_widths]
        self._splits = [w for w in widths for _ in range(2)]
        self.factors = nn.Linear(config.condition_dim, sum(self._splits))
        self.register_buffer("gain", torch.ones(1, width, 1, 1))
        self.register_buffer("shift", torch.zeros(1, width, 1, 1))
        self.conv_to_rgb = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, noise: torch.Tensor, embedded: torch.Tensor) -> torch.Tensor:
        condition = torch.cat([noise, embedded], dim=1)  # (B, 2 z_dim)
        # The output of gen_z is ordered (H, W, C), as in TensorFlow, so this view is channels_last.
        x = self.gen_z(condition).view(len(noise), 4, 4, -1).permute(0, 3, 1, 2)
        factors = [f[:, :, None, None] for f in self.factors(condition).split(self._splits, dim=1)]
        for layer in self.layers:
            if isinstance(layer, Block):
                x = layer(x, factors[:8])
                factors = factors[8:]
            else:
                x = layer(x)
        return torch.tanh(self.conv_to_rgb(F.relu(torch.addcmul(self.shift, x, self.gain))))


@dataclass(frozen=True)
class BigGANOptions:
    """Sampling options.

    Attributes:
        truncation: scale of the noise, in (0, 1]; 1 keeps all the variety, which training data needs.
        class_names: K names where the source has none, or `imagenet`.
        keep_norm: scale the mixed class embedding of a soft label, see :func:`ppgen.generators.parts.family.embed`.
        compile: `none`, `default` or `graphs`, see :func:`ppgen.generators.parts.networks.compile_network`.
    """

    truncation: float = 1.0
    class_names: tuple[str, ...] | str = ()
    keep_norm: bool = False
    compile: str = "none"


class BigGANGenerator(FamilyGenerator):
    """See :class:`ppgen.generators.parts.family.FamilyGenerator`.

    Args:
        table: (K, z_dim), class embeddings.
        weights: name of the weight file.
    """

    def __init__(
        self,
        source: Source,
        network: BigGANNetwork,
        table: torch.Tensor,
        options: BigGANOptions,
        weights: str,
    ) -> None:
        config, side = network.config, network.config.output_dim
        super().__init__(
            source,
            image_shape=(3, side, side),
            num_classes=config.num_classes,
            class_names=choose_names(options.class_names, source.class_names),
            sampling=asdict(options) | {"class_names": ()},  # the plan has the names elsewhere
            device=table.device,
            dtype=table.dtype,
            weights=[weights],
        )
        self.compile_mode = options.compile
        self.class_tables = [table]
        self._table, self._truncation, self._z_dim = table, options.truncation, config.z_dim
        self._forward = compile_network(network, options.compile, table.device)

    def sample_float(self, condition: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        """See :meth:`FamilyGenerator.sample_float`; float32 in [-1, 1]."""
        check_condition(condition, seeds, self.num_classes)
        noise = truncated_normal(PerSampleNoise(seeds).randn((self._z_dim,)), self._truncation)
        with torch.inference_mode():
            return self._forward(noise.to(self._table), embed(self._table, condition, self.keep_norm)).float()


def load(source: Source, device: torch.device, dtype: torch.dtype) -> Generator:
    """A generator from the published files.

    Raises:
        UserError: files missing, damaged or not fitting each other, truncation outside (0, 1].
    """
    options = read_options(BigGANOptions, source)
    if not 0 < options.truncation <= 1:
        raise UserError(
            f"sampling option truncation={options.truncation} is outside (0, 1]; 1 gives the most varied images"
        )
    folder = Path(source.location)
    config = read_config(folder / "config.json", BigGANConfig)
    file = next((folder / name for name in _FILES if (folder / name).is_file()), folder / _FILES[-1])
    state = read_weights(file)
    network = build(config, state, options.truncation, str(file))
    network = network.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # The published linear layer without bias is a table, (K, z_dim).
    table = state["embeddings.weight"].T.to(device, dtype)
    return BigGANGenerator(source, network, table, options, file.name)


def build(config: BigGANConfig, state: State, truncation: float, where: str) -> BigGANNetwork:
    """The network at one truncation, from a published state dict.

    Args:
        truncation: in (0, 1]; selects the standing statistics of the batch norms.
        where: the file, for error messages.

    Raises:
        UserError: keys missing, unexpected or of another shape.
    """
    network = BigGANNetwork(config)
    require_shapes(state, _published_shapes(network, state), where, "the BigGAN-deep of its config.json")
    plain = fold_spectral_norm(state)
    plain.pop("embeddings.weight")
    own: dict[str, torch.Tensor] = {}
    own["factors.weight"], own["factors.bias"] = _stack_norms(network, plain, truncation)
    mean, std = _statistics(plain, "generator.bn.", truncation, config.eps)
    gain = plain.pop("generator.bn.weight") / std
    own["gain"] = gain.view(1, -1, 1, 1)
    own["shift"] = (plain.pop("generator.bn.bias") - mean * gain).view(1, -1, 1, 1)
    for name in ("weight", "bias"):
        own[f"conv_to_rgb.{name}"] = plain.pop(f"generator.conv_to_rgb.{name}")[:3]
    own.update({name.removeprefix("generator."): tensor for name, tensor in plain.items()})
    network.load_state_dict(own)
    for layer in network.layers:
        if isinstance(layer, Block) and layer.upsample:
            layer.conv_1 = UpsampleConv(layer.conv_1)  # type: ignore[arg-type]
    return network.eval().requires_grad_(False)


def _published_shapes(network: BigGANNetwork, state: State) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every weight that a published file of this network holds.

    Args:
        state: the file; every layer of it is spectrally normalised or not, in the present or the early format of PyTorch.
    """
    config, width, wide = network.config, network.config.channel_width, network.config.condition_dim
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    layers = {f"generator.{name}": shape for name, shape in own.items() if not name.startswith(_DERIVED)}
    layers["embeddings.weight"] = (config.z_dim, config.num_classes)
    layers |= {"generator.conv_to_rgb.weight": (width, width, 3, 3), "generator.conv_to_rgb.bias": (width,)}
    norms = {"generator.bn.": width}
    for i, layer in enumerate(network.layers):
        if isinstance(layer, Block):
            norms |= {f"generator.layers.{i}.{n}.": w for n, w in zip(_NORMS, layer.norm_widths, strict=True)}
    for prefix, channels in norms.items():
        layers |= {
            f"{prefix}{name}": (config.n_stats, channels) for name in ("running_means", "running_vars")
        }
        if prefix == "generator.bn.":
            layers |= {f"{prefix}{name}": (channels,) for name in ("weight", "bias")}
        else:
            layers |= {f"{prefix}{name}.weight": (channels, wide) for name in ("scale", "offset")}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in layers.items():
        spectral = {"_orig": shape, "_u": shape[:1], "_v": (math.prod(shape[1:]),), "": shape}
        if f"{name}_orig" not in state:
            spectral = {"": shape}
        elif name not in state:
            del spectral[""]
        elif f"{name}_v" not in state:
            del spectral["_v"]
        shapes |= {name + suffix: size for suffix, size in spectral.items()}
    return shapes


def fold_spectral_norm(state: State) -> dict[str, torch.Tensor]:
    """The state dict with every spectrally normalised weight divided by its sigma, as in evaluation mode.

    sigma = u' W v with the stored singular vectors u, v. Files of PyTorch before 1.1 hold the divided weight instead of v.
    """
    plain = {name: tensor for name, tensor in state.items() if not name.endswith(("_orig", "_u", "_v"))}
    for name, tensor in state.items():
        stem = name.removesuffix("_orig")
        if stem == name or (stem in plain and f"{stem}_v" not in state):
            continue
        matrix = tensor.double().flatten(1)  # (out, rest)
        u = state[f"{stem}_u"].double()
        v = state[f"{stem}_v"].double()
        plain[stem] = (tensor.double() / torch.dot(u, matrix @ v)).to(tensor.dtype)
    return plain


def truncated_normal(normal: torch.Tensor, truncation: float) -> torch.Tensor:
    """Standard normal values -> `truncation` times a normal cut off at +-2, element by element; float32 of the same shape.

    The models were trained with this noise. Mapping quantiles, not drawing again, uses a fixed number of values for each sample.
    """
    low = 0.5 * (1 + math.erf(-_CUT / math.sqrt(2)))
    uniform = torch.special.ndtr(normal.double())
    return (truncation * torch.special.ndtri(low + uniform * (1 - 2 * low))).float()


def _stack_norms(
    network: BigGANNetwork, plain: dict[str, torch.Tensor], truncation: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of the affine map from the condition to gain and bias of every conditional norm.

    y = (x - mean) / std * (1 + scale c) + offset c  =  x * gain + bias,
    gain = (1 + scale c) / std,  bias = offset c - mean * gain. Removes the entries it uses from `plain`.
    """
    weights, biases = [], []
    for i, layer in enumerate(network.layers):
        if not isinstance(layer, Block):
            continue
        for norm in _NORMS:
            prefix = f"generator.layers.{i}.{norm}."
            mean, std = _statistics(plain, prefix, truncation, network.config.eps)
            gain = plain.pop(prefix + "scale.weight") / std[:, None]  # (C, 2 z_dim)
            offset = plain.pop(prefix + "offset.weight")
            weights += [gain, offset - mean[:, None] * gain]
            biases += [1 / std, -mean / std]
    return torch.cat(weights), torch.cat(biases)


def _statistics(
    plain: dict[str, torch.Tensor], prefix: str, truncation: float, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean, std), (C,) each, interpolated between the two nearest truncation levels. Removes the entries it uses from `plain`.

    The published code swaps the two weights of this interpolation, so at truncations between its levels it differs from this.
    """
    means, variances = plain.pop(prefix + "running_means"), plain.pop(prefix + "running_vars")  # (n_stats, C)
    place = truncation * (len(means) - 1)
    low = min(int(place), len(means) - 2)
    share = place - low
    mean = torch.lerp(means[low], means[low + 1], share)
    variance = torch.lerp(variances[low], variances[low + 1], share)
    return mean, torch.sqrt(variance + eps)
