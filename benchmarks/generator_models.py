"""Random models in the genuine formats and configurations, and the arithmetic they cost, for `generators.py`."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ppgen.generators import load_generator
from ppgen.generators.parts.decoder import build_decoder, decoder_shapes
from ppgen.generators.parts.tokens import vqvae_shapes
from ppgen.generators.sit import SiTConfig, SiTOptions, make_schedule, read_network, sit_shapes
from ppgen.generators.var import PUBLISHED_SCALES, VARNetwork, var_shapes


@dataclass(frozen=True)
class DiTConfig:
    """A DiT and its autoencoder.

    Attributes:
        heads, layers: of the transformer; heads are `head_width` wide.
        side: of the latents.
        vae: widths of the autoencoder's four resolutions.
    """

    heads: int
    head_width: int
    layers: int
    side: int
    vae: tuple[int, ...]
    num_classes: int = 1000


DIT_XL_2_256 = DiTConfig(heads=16, head_width=72, layers=28, side=32, vae=(128, 256, 512, 512))
SMALL_DIT = DiTConfig(heads=6, head_width=64, layers=6, side=16, vae=(32, 32, 64, 64))
"""DiT-S/2 with half its blocks at 128 pixels, the autoencoder scaled down with it."""

_ADM = {
    "in_channels": 3,
    "out_channels": 3,
    "num_class_embeds": 1000,
    "resnet_time_scale_shift": "scale_shift",
    "attn_norm_num_groups": 32,
    "upsample_type": "resnet",
    "downsample_type": "resnet",
}
IMAGENET_64_UNET: dict[str, Any] = {
    **_ADM,
    "sample_size": 64,
    "layers_per_block": 3,
    "block_out_channels": (192, 384, 576, 768),
    "attention_head_dim": 64,
    "down_block_types": ("ResnetDownsampleBlock2D", *("AttnDownBlock2D",) * 3),
    "up_block_types": (*("AttnUpBlock2D",) * 3, "ResnetUpsampleBlock2D"),
}
SMALL_UNET: dict[str, Any] = {
    **_ADM,
    "sample_size": 32,
    "layers_per_block": 2,
    "block_out_channels": (64, 128),
    "attention_head_dim": 32,
    "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
}

BIGGAN_DEEP_256: dict[str, Any] = {
    "output_dim": 256,
    "z_dim": 128,
    "class_embed_dim": 128,
    "channel_width": 128,
    "num_classes": 1000,
    "layers": [
        [False, 16, 16],
        [True, 16, 16],
        [False, 16, 16],
        [True, 16, 8],
        [False, 8, 8],
        [True, 8, 8],
        [False, 8, 8],
        [True, 8, 4],
        [False, 4, 4],
        [True, 4, 2],
        [False, 2, 2],
        [True, 2, 1],
    ],
    "attention_layer_position": 8,
    "eps": 1e-4,
    "n_stats": 51,
}
SMALL_BIGGAN: dict[str, Any] = {**BIGGAN_DEEP_256, "channel_width": 16}


@dataclass(frozen=True)
class VARSize:
    """A VAR of 256 pixels and its autoencoder.

    Attributes:
        depth: blocks, and heads of 64 values.
        unit: width of the decoder at its highest resolution.
    """

    depth: int
    unit: int = 160


VAR_D16_256 = VARSize(16)
SMALL_VAR = VARSize(8, unit=32)

VAR_TOKENS = {16: 680, 20: 680, 24: 680, 30: 680, 36: 2240}
"""Depth of a published VAR -> tokens of an image."""


def build_dit(config: DiTConfig) -> tuple[Any, Any]:
    """(transformer, autoencoder), untrained."""
    from diffusers import AutoencoderKL, DiTTransformer2DModel

    transformer = DiTTransformer2DModel(
        num_attention_heads=config.heads,
        attention_head_dim=config.head_width,
        in_channels=4,
        out_channels=8,
        num_layers=config.layers,
        sample_size=config.side,
        num_embeds_ada_norm=config.num_classes,
    )
    vae = AutoencoderKL(
        block_out_channels=config.vae,
        down_block_types=("DownEncoderBlock2D",) * len(config.vae),
        up_block_types=("UpDecoderBlock2D",) * len(config.vae),
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=32,
    )
    return transformer, vae


def save_dit(folder: Path, config: DiTConfig, safe_serialization: bool = True) -> None:
    """A DiTPipeline directory; without `safe_serialization` its weights are `.bin` files, as those of facebook/DiT-XL-2-256."""
    from diffusers import DDIMScheduler, DiTPipeline

    torch.manual_seed(0)
    scheduler = DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    DiTPipeline(*build_dit(config), scheduler).save_pretrained(folder, safe_serialization=safe_serialization)


def save_consistency(folder: Path, config: dict[str, Any]) -> None:
    """A ConsistencyModelPipeline directory."""
    from diffusers import CMStochasticIterativeScheduler, ConsistencyModelPipeline, UNet2DModel

    torch.manual_seed(0)
    ConsistencyModelPipeline(UNet2DModel(**config), CMStochasticIterativeScheduler()).save_pretrained(folder)


def build_biggan(config: dict[str, Any]) -> Any:
    """The published network (package pytorch-pretrained-biggan), untrained."""
    from pytorch_pretrained_biggan.config import BigGANConfig
    from pytorch_pretrained_biggan.model import BigGAN

    network = BigGAN(BigGANConfig(**config))
    torch.nn.init.ones_(network.generator.bn.weight)
    torch.nn.init.zeros_(network.generator.bn.bias)
    return network.eval()


def save_biggan(folder: Path, config: dict[str, Any], warm_up: int = 0) -> Any:
    """The published files; returns the published network.

    Args:
        warm_up: forward passes that let spectral norm find its singular vectors; without them the images are flat.
    """
    torch.manual_seed(0)
    network = build_biggan(config).train()
    for _ in range(warm_up):
        with torch.no_grad():
            network(torch.randn(1, config["z_dim"]), torch.eye(config["num_classes"])[:1], 1.0)
    network.eval()
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps(config))
    return network


def shapes_of_var(depth: int) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the weights of a published VAR; that of 512 pixels shares its adaptive norms."""
    scales = PUBLISHED_SCALES[VAR_TOKENS.get(depth, 680)]
    return var_shapes(depth, 1001, scales, width=64 * depth, shared=depth == 36)


def shapes_of_sit(config: DiTConfig = DIT_XL_2_256, repa: bool = False) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the weights of a SiT that has the sizes of a DiT, or of REPA's."""
    width = config.heads * config.head_width
    return sit_shapes(config.layers, 1001, width=width, inner=4 * width, out=4 if repa else 8)


def draw_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Random weights that keep the size of what passes through them."""
    torch.manual_seed(0)
    state = {}
    for name, shape in shapes.items():
        tensor = torch.randn(shape)
        fan_in = math.prod(shape[1:])
        state[name] = tensor / math.sqrt(fan_in) if len(shape) > 1 else 0.1 * tensor + name.endswith("weight")
    return state


def save_var(folder: Path, size: VARSize = VAR_D16_256) -> None:
    """The two published files of a VAR."""
    torch.save(draw_state(shapes_of_var(size.depth)), folder / "var.pt")
    torch.save(draw_state(vqvae_shapes(size.unit)), folder / "vae.pt")


def save_sit(folder: Path, config: DiTConfig = DIT_XL_2_256) -> None:
    """The published state dict of a SiT that has the sizes of a DiT, and its autoencoder."""
    torch.save(draw_state(shapes_of_sit(config)), folder / "sit.pt")
    (folder / "config.json").write_text(json.dumps({"input_size": config.side}))
    torch.manual_seed(1)
    build_dit(config)[1].save_pretrained(folder / "vae")


def var_flops(depth: int, unit: int = 160) -> tuple[float, float]:
    """FLOP of all scales of one image without guidance, and of decoding it."""
    meta, scales = torch.device("meta"), PUBLISHED_SCALES[VAR_TOKENS.get(depth, 680)]
    state = {name: torch.empty(shape, device=meta) for name, shape in shapes_of_var(depth).items()}
    network = VARNetwork(state, scales, meta, torch.float32)

    def evaluate() -> None:
        memory, start = network.begin(torch.empty(1, 64 * depth, device=meta)), 0
        for side in scales:
            network(torch.empty(1, side**2, 64 * depth, device=meta), start, memory)
            start += side**2

    with meta:
        decoder, post = build_decoder(unit, 32), torch.nn.Conv2d(32, 32, 3, padding=1)
        latents = torch.empty(1, 32, scales[-1], scales[-1])
    return _count(evaluate), _count(lambda: decoder(post(latents)))


def sit_flops(shapes: dict[str, tuple[int, ...]], latents: tuple[int, int, int] = (4, 32, 32)) -> float:
    """FLOP of one evaluation of a SiT, or with its shapes of a LightningDiT."""
    meta, width = torch.device("meta"), shapes["y_embedder.embedding_table.weight"][1]
    state = {name: torch.empty(shape, device=meta) for name, shape in shapes.items()}
    with meta:
        network = read_network(
            state,
            SiTConfig(),
            make_schedule(SiTOptions(solver="flow_euler", steps=1, noise_at=0)),
            latents,
            device=meta,
            dtype=torch.float32,
            compile_mode="none",
        )
        return _count(lambda: network.predict(torch.empty(1, *latents), 0, torch.empty(1, 1, width), False))


def lightningdit_costs() -> tuple[int, float, float]:
    """Parameters of LightningDiT-XL/1 and its decoder; FLOP of one evaluation, and of decoding one image."""
    trained = sit_shapes(28, 1001, width=1152, inner=3072, channels=32, out=32, patch=1, gated=True)
    shapes = trained | {"feat_rope.freqs_cos": (256, 72), "feat_rope.freqs_sin": (256, 72)}
    count = sum(math.prod(s) for s in [*trained.values(), *decoder_shapes(128, 32, fused=False).values()])
    with torch.device("meta"):
        decoder, post = build_decoder(128, 32), torch.nn.Conv2d(32, 32, 1)
        latents = torch.empty(1, 32, 16, 16)
    return count, sit_flops(shapes, (32, 16, 16)), _count(lambda: decoder(post(latents)))


def dit_flops(config: DiTConfig) -> tuple[float, float]:
    """FLOP (2 a multiply-add) of one evaluation and of decoding one image."""
    with torch.device("meta"):
        transformer, vae = build_dit(config)
        x, t, label = (
            torch.empty(1, 4, config.side, config.side),
            torch.zeros(1),
            torch.zeros(1, dtype=torch.int64),
        )
        return _count(lambda: transformer(x, timestep=t, class_labels=label)), _count(lambda: vae.decode(x))


def dit_parameters(config: DiTConfig) -> int:
    """Trained values that sampling uses: the transformer's and the decoder's."""
    with torch.device("meta"):
        transformer, vae = build_dit(config)
    return parameters(transformer) + parameters(vae.decoder) + parameters(vae.post_quant_conv)


def unet_parameters(config: dict[str, Any]) -> int:
    """Trained values."""
    from diffusers import UNet2DModel

    with torch.device("meta"):
        return parameters(UNet2DModel(**config))


def unet_flops(config: dict[str, Any]) -> float:
    """FLOP of one evaluation."""
    from diffusers import UNet2DModel

    with torch.device("meta"):
        unet = UNet2DModel(**config)
        x = torch.empty(1, 3, config["sample_size"], config["sample_size"])
        return _count(lambda: unet(x, torch.zeros(1), class_labels=torch.zeros(1, dtype=torch.int64)))


def biggan_flops(config: dict[str, Any]) -> float:
    """FLOP of one image."""
    network = build_biggan(config)  # not on the meta device, which the published code's constructors pass by
    noise, label = torch.zeros(1, config["z_dim"]), torch.zeros(1, config["num_classes"])
    return _count(lambda: network(noise, label, 1.0))


def parameters(module: torch.nn.Module) -> int:
    """Number of trained values."""
    return sum(p.numel() for p in module.parameters())


def _count(run: Any) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def config(model: str, size: str) -> Any:
    """Of `dit`, `sit`, `var`, `consistency` or `biggan`, `small` or `full`."""
    small = size == "small"
    return {
        "dit": SMALL_DIT if small else DIT_XL_2_256,
        "sit": SMALL_DIT if small else DIT_XL_2_256,
        "var": SMALL_VAR if small else VAR_D16_256,
        "consistency": SMALL_UNET if small else IMAGENET_64_UNET,
        "biggan": SMALL_BIGGAN if small else BIGGAN_DEEP_256,
    }[model]


def arithmetic(model: str, size: str) -> tuple[float, float]:
    """FLOP of one network evaluation and of decoding an image, as the published code does them."""
    if model == "dit":
        return dit_flops(config(model, size))
    if model == "sit":
        chosen = config(model, size)
        network = sit_flops(shapes_of_sit(chosen), (4, chosen.side, chosen.side))
        return network, dit_flops(chosen)[1]
    if model == "var":
        chosen = config(model, size)
        return var_flops(chosen.depth, chosen.unit)
    if model == "consistency":
        return unet_flops(config(model, size)), 0.0
    return biggan_flops(config(model, size)), 0.0


def print_costs() -> None:
    """Parameters and arithmetic of the full-size models and of the embedded kit, as the catalogue of sources states them."""
    for name, side in (("dit-xl-2-256", 32), ("dit-xl-2-512", 64)):
        full = replace(DIT_XL_2_256, side=side)
        network, decoder = dit_flops(full)
        print(
            f"{name}: {dit_parameters(full)} parameters, {network / 1e9:.1f} GFLOP, decoding {decoder / 1e9:.1f}"
        )
    _, vae = dit_flops(DIT_XL_2_256)
    decoding = dit_parameters(DIT_XL_2_256) - parameters(build_dit(DIT_XL_2_256)[0])
    for name, repa in (("sit-xl-2-256", False), ("repa-xl-2-256", True)):
        count = sum(map(math.prod, shapes_of_sit(repa=repa).values())) + decoding
        network = sit_flops(shapes_of_sit())
        print(f"{name}: {count} parameters, {network / 1e9:.1f} GFLOP, decoding {vae / 1e9:.1f}")
    count, network, decoder = lightningdit_costs()
    name = "lightningdit-xl-1-256"
    print(f"{name}: {count} parameters, {network / 1e9:.1f} GFLOP, decoding {decoder / 1e9:.1f}")
    for depth, tokens in VAR_TOKENS.items():
        network, decoder = var_flops(depth)
        count = sum(
            math.prod(s) for shapes in (shapes_of_var(depth), vqvae_shapes()) for s in shapes.values()
        )
        name = f"var-d{depth}-{256 if tokens == 680 else 512}"
        print(f"{name}: {count} parameters, {network / 1e9:.1f} GFLOP, decoding {decoder / 1e9:.1f}")
    unet = IMAGENET_64_UNET
    print(f"cd-imagenet-64: {unet_parameters(unet)} parameters, {unet_flops(unet) / 1e9:.1f} GFLOP")
    biggan = BIGGAN_DEEP_256
    count = parameters(build_biggan(biggan))
    print(f"biggan-deep-256: {count} parameters, {biggan_flops(biggan) / 1e9:.1f} GFLOP")
    letters = load_generator("letters", device="cpu")
    with FlopCounterMode(display=False) as counter:
        letters.sample(torch.eye(letters.num_classes)[:1], torch.arange(1))
    print(f"letters: {counter.get_total_flops() / 1e9:.3f} GFLOP an image")
