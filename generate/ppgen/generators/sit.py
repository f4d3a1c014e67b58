"""SiT (Ma et al. 2024) and REPA (Yu et al. 2024): the transformer of DiT as a velocity model, from the published state dict.

A directory holds the weights (`SiT-XL-2-256.pt`, REPA's checkpoint, or `transformer/*.safetensors`), perhaps their `config.json`, and
the autoencoder in `vae/`. Where the published samplers of SiT guide three of the four latent channels, this one guides all, as REPA's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ppcore.classifiers import read_weights
from ppcore.errors import UserError
from ppgen.generators.parts.diffusion import DiffusionGenerator, DiffusionOptions
from ppgen.generators.parts.family import choose_names
from ppgen.generators.parts.networks import load_decoder
from ppgen.generators.parts.published import State, require_shapes
from ppgen.generators.parts.scheduler import Scheduler
from ppgen.generators.parts.transformer import (
    Conditioning,
    DiTBlock,
    DiTCore,
    DiTNetwork,
    InferenceLinear,
    SwiGLU,
)
from ppgen.sampling import Schedule
from ppgen.sources import Generator, Source, find_weights, read_config, read_options

_FREQUENCIES = 256  # values in the sine-cosine embedding of a time
_HEADS = {1152: 16}  # width -> attention heads; in every other published size a head is 64 wide


@dataclass(frozen=True)
class SiTOptions(DiffusionOptions):
    """Sampling options.

    Attributes:
        noise_at: the network's time of pure noise: 0 (SiT; data at 1) or 1 (REPA; data at 0). None finds it from the weights: SiT
            has twice as many output channels as input channels.
    """

    noise_at: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise_at not in (None, 0, 1):
            raise UserError(
                f"sampling option noise_at={self.noise_at!r} must be 0 (noise at time 0, as SiT) or 1 (as REPA)"
            )


@dataclass(frozen=True)
class SiTConfig:
    """The fields of config.json that cannot always be read off the weights, by their published names.

    Attributes:
        num_heads: attention heads; None follows from the width.
        input_size: side of the latents; None follows from `pos_embed`, and is 32 without it.
        depth: number of blocks, compared with the weights.
    """

    num_heads: int | None = None
    input_size: int | None = None
    depth: int | None = None


def load(source: Source, device: torch.device, dtype: torch.dtype) -> Generator:
    """A generator from the published files.

    Defaults: DPM-Solver++(2M), 20 steps, guidance 1.5 in an interval.

    Raises:
        UserError: files missing or damaged, weights that are not all there or do not fit, options that do not fit.
    """
    folder = Path(source.location)
    options = read_options(SiTOptions, source)
    file = find_weights(folder, "sit", source.files)
    if file.name.lower().startswith("dit"):
        raise UserError(
            f"{file} seems to be a DiT, whose weights have the same names as a SiT's; give a DiT in the diffusers layout, or another "
            "name to this file if it is a SiT"
        )
    config_file = file.parent / "config.json"
    config = read_config(config_file, SiTConfig) if config_file.is_file() else SiTConfig()
    state = read_weights(file, mmap=True)
    repa = any(name.startswith("projectors.") for name in state)
    state = {name: tensor for name, tensor in state.items() if not name.startswith("projectors.")}
    if not (folder / "vae").is_dir():
        raise UserError(
            f"{folder} has no autoencoder; put the files of stabilityai/sd-vae-ft-ema into {folder / 'vae'}"
        )
    shape, learns_variance = require_sit(state, config, str(file))
    if options.noise_at is None:
        options = replace(options, noise_at=0 if learns_variance and not repa else 1)
    options = replace(options, solver=source.sampling.get("solver", "dpmpp_2m"))
    network = read_network(
        state, config, make_schedule(options), shape, device=device, dtype=dtype, compile_mode=options.compile
    )
    num_classes = len(state["y_embedder.embedding_table.weight"]) - 1
    return DiffusionGenerator(
        source,
        network,
        make_schedule(options),
        options,
        load_decoder(folder / "vae", device, dtype, chunk=options.decode_batch, compile_mode=options.compile),
        num_classes=num_classes,
        class_names=choose_names(options.class_names, source.class_names),
        device=device,
        dtype=dtype,
        weights=(file.relative_to(folder).as_posix(), "vae"),
    )


def make_schedule(options: SiTOptions) -> Schedule:
    """The straight path from noise to data, and how the network is asked along it.

    The network of REPA gets the share of noise as its time and returns noise - data. That of SiT gets the share of data and returns
    data - noise.

    Raises:
        UserError: a solver that does not fit.
    """
    config = {"num_train_timesteps": 1, "invert_sigmas": options.noise_at == 0}
    return Scheduler("FlowMatchEulerDiscreteScheduler", config).schedule(options, clip=False)


def require_sit(state: State, config: SiTConfig, where: str) -> tuple[tuple[int, int, int], bool]:
    """Check that the weights are all of a SiT or LightningDiT, and nothing else.

    Returns:
        (shape (C, S, S) of the latents, whether the network has further output channels for a variance)

    Raises:
        UserError: weights missing, unexpected or of another shape.
    """
    conv, last = state.get("x_embedder.proj.weight"), state.get("final_layer.linear.weight")
    if conv is None or conv.ndim != 4 or last is None:
        raise UserError(
            f"{where} lacks x_embedder.proj.weight or final_layer.linear.weight; expected the state dict of a SiT"
        )
    width, channels, patch, _ = conv.shape
    blocks = {int(match[1]) for name in state if (match := re.match(r"blocks\.(\d+)\.", name))}
    depth = config.depth or max(blocks, default=0) + 1
    rows = len(state.get("y_embedder.embedding_table.weight", ()))
    gated = any(".mlp.w12." in name for name in state)
    hidden = [t.numel() for name, t in state.items() if name.endswith((".mlp.fc1.bias", ".mlp.w12.bias"))]
    inner = min(hidden, default=4 * width) // (2 if gated else 1)
    out = last.shape[0] // patch**2
    shapes = sit_shapes(
        depth, max(rows, 2), width=width, inner=inner, channels=channels, out=out, patch=patch, gated=gated
    )
    positions = state.get("pos_embed")
    side = config.input_size or (32 if positions is None else patch * round(positions.shape[-2] ** 0.5))
    tokens = (side // patch) ** 2
    if positions is not None or gated:
        shapes["pos_embed"] = (1, tokens, width)
    if gated:
        table = (tokens, width // _heads(width, config))
        shapes |= {"feat_rope.freqs_cos": table, "feat_rope.freqs_sin": table}
    require_shapes(state, shapes, where, "a LightningDiT" if gated else "a SiT")
    if out not in (channels, 2 * channels):
        raise UserError(f"{where} has {out} output channels; expected {channels} or {2 * channels}")
    return (channels, side, side), out == 2 * channels


def sit_shapes(
    depth: int,
    rows: int,
    *,
    width: int,
    inner: int,
    channels: int = 4,
    out: int = 8,
    patch: int = 2,
    gated: bool = False,
) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every trained weight of a published SiT, or of a LightningDiT, whose network is read here, too.

    Args:
        rows: of the class table, the null label included.
        inner: width of the feed-forward layers.
        channels, out: of the latents and of the output.
        gated: the blocks are LightningDiT's; without its tables of positions.
    """
    layers = {
        "t_embedder.mlp.0": (width, _FREQUENCIES),
        "t_embedder.mlp.2": (width, width),
        "final_layer.adaLN_modulation.1": (2 * width, width),
        "final_layer.linear": (patch**2 * out, width),
    }
    for i in range(depth):
        layers |= {
            f"blocks.{i}.attn.qkv": (3 * width, width),
            f"blocks.{i}.attn.proj": (width, width),
            f"blocks.{i}.mlp.{'w12' if gated else 'fc1'}": (2 * inner if gated else inner, width),
            f"blocks.{i}.mlp.{'w3' if gated else 'fc2'}": (width, inner),
            f"blocks.{i}.adaLN_modulation.1": (6 * width, width),
        }
    shapes: dict[str, tuple[int, ...]] = {f"{name}.weight": shape for name, shape in layers.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in layers.items()}
    shapes |= {"x_embedder.proj.weight": (width, channels, patch, patch), "x_embedder.proj.bias": (width,)}
    shapes["y_embedder.embedding_table.weight"] = (rows, width)
    if gated:
        norms = [f"blocks.{i}.norm{k}" for i in range(depth) for k in (1, 2)]
        shapes |= {f"{name}.weight": (width,) for name in [*norms, "final_layer.norm_final"]}
    return shapes


def read_network(
    state: State,
    config: SiTConfig,
    schedule: Schedule,
    shape: tuple[int, int, int],
    *,
    device: torch.device,
    dtype: torch.dtype,
    compile_mode: str,
) -> DiTNetwork:
    """The network of a published state dict that :func:`require_sit` has accepted."""
    from diffusers.models.embeddings import PatchEmbed  # importing diffusers takes seconds

    def get(name: str) -> torch.Tensor:
        # A copy, because the tensors of the state are parts of the file, which may change later.
        return state[name].to(device, dtype, copy=True)

    def linear(name: str, gelu: bool = False) -> InferenceLinear:
        return InferenceLinear(
            get(f"{name}.weight"), get(f"{name}.bias"), gelu=gelu, pack=compile_mode == "none"
        )

    def norm(name: str) -> nn.Module:
        if f"{name}.weight" not in state:
            return nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        gained = nn.RMSNorm(width, eps=1e-6, device=device, dtype=dtype)
        gained.load_state_dict({"weight": state[f"{name}.weight"]})
        return gained.requires_grad_(False)

    def feed_forward(name: str) -> nn.Module:
        if f"{name}.w12.weight" in state:
            return SwiGLU(linear(f"{name}.w12"), linear(f"{name}.w3"))
        return nn.Sequential(linear(f"{name}.fc1", gelu=True), linear(f"{name}.fc2"))

    width, channels, patch, _ = state["x_embedder.proj.weight"].shape
    side, heads = shape[1], _heads(width, config)
    if width % heads:
        raise UserError(f"num_heads={heads} in config.json does not divide the network's width {width}")
    depth = sum(name.endswith("attn.qkv.weight") for name in state)
    patches: Any = PatchEmbed(side, side, patch_size=patch, in_channels=channels, embed_dim=width)
    patches.proj.load_state_dict({name: state[f"x_embedder.proj.{name}"] for name in ("weight", "bias")})
    if "pos_embed" in state:
        patches.pos_embed.copy_(state["pos_embed"])
    rotary = None
    if "feat_rope.freqs_cos" in state:
        rotary = get("feat_rope.freqs_cos"), get("feat_rope.freqs_sin")
    blocks = [
        DiTBlock(
            heads,
            linear(f"blocks.{i}.attn.qkv"),
            linear(f"blocks.{i}.attn.proj"),
            (norm(f"blocks.{i}.norm1"), norm(f"blocks.{i}.norm2")),
            feed_forward(f"blocks.{i}.mlp"),
            rotary,
        )
        for i in range(depth)
    ]
    project = linear("final_layer.linear")
    out_channels = len(state["final_layer.linear.bias"]) // patch**2
    core = DiTCore(
        patches.to(device, dtype).requires_grad_(False),
        blocks,
        norm("final_layer.norm_final"),
        project,
        patch,
        out_channels,
    )
    hidden = F.silu(F.linear(_frequencies(schedule, device).to(dtype), *_layer(get, "t_embedder.mlp.0")))
    modulations = [_layer(state.__getitem__, f"blocks.{i}.adaLN_modulation.1") for i in range(depth)]
    conditioning = Conditioning(
        tables=[get("y_embedder.embedding_table.weight")],
        times=F.linear(hidden, *_layer(get, "t_embedder.mlp.2"))[:, None, None],  # (levels, 1, 1, D)
        weight=torch.stack([weight.T for weight, _ in modulations]).to(device, dtype),
        bias=torch.stack([bias for _, bias in modulations])[:, None].to(device, dtype),
        final=_layer(get, "final_layer.adaLN_modulation.1"),
    )
    return DiTNetwork(core, conditioning, shape, dtype, device, compile_mode)


def _heads(width: int, config: SiTConfig) -> int:
    return config.num_heads or _HEADS.get(width, max(1, width // 64))


def _layer(get: Any, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    return get(f"{name}.weight"), get(f"{name}.bias")


def _frequencies(schedule: Schedule, device: torch.device) -> torch.Tensor:
    """Sine-cosine embedding of the times of a schedule, (levels, 256) float32."""
    from diffusers.models.embeddings import get_timestep_embedding

    times = torch.tensor(schedule.timesteps, dtype=torch.float32, device=device)
    return get_timestep_embedding(times, _FREQUENCIES, flip_sin_to_cos=True, downscale_freq_shift=0)
