"""Tiny random models in the genuine on-disk formats."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

SIDE = 8  # of latents

torch.set_num_threads(
    1
)  # two threads that wait for each other on a busy machine take minutes over these models


def save_dit(folder: Path, num_classes: int = 10, scheduler: Any = None, names: Sequence[str] = ()) -> Path:
    """A DiTPipeline directory: two blocks, 32 wide, latents 8x8x4, images 16x16."""
    from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    torch.manual_seed(0)
    transformer = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=SIDE,
        num_embeds_ada_norm=num_classes,
    )
    for parameter in transformer.parameters():  # biases are zero at first and would hide a forgotten one
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, std=0.05)
    vae = save_vae(None)
    scheduler = scheduler or DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    DiTPipeline(transformer, vae, scheduler).save_pretrained(folder)
    assert isinstance(vae, AutoencoderKL)
    if names:
        index = folder / "model_index.json"
        fields = json.loads(index.read_text())
        fields["id2label"] = {str(i): name for i, name in enumerate(names)}
        index.write_text(json.dumps(fields))
    return folder


def save_vae(folder: Path | None, channels: int = 3) -> Any:
    """An autoencoder that doubles the side."""
    from diffusers import AutoencoderKL

    torch.manual_seed(1)
    vae = AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
    )
    if folder is not None:
        vae.save_pretrained(folder)
    return vae


def make_unet(
    rows: int | None, channels: int = 3, side: int = 16, out_channels: int | None = None, **more: Any
) -> Any:
    """A class-conditional UNet2DModel; its last convolution is damped, so that sampling it is a tame equation."""
    from diffusers import UNet2DModel

    torch.manual_seed(2)
    unet = UNet2DModel(
        sample_size=side,
        in_channels=channels,
        out_channels=out_channels or channels,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        num_class_embeds=rows,
        norm_num_groups=8,
        attention_head_dim=8,
        resnet_time_scale_shift="scale_shift",
        **more,
    )
    with torch.no_grad():
        unet.conv_out.weight.mul_(0.1)
    return unet


def save_unet(folder: Path, scheduler: Any, rows: int | None = 7, channels: int = 3, **more: Any) -> Path:
    """A directory with `unet/` and `scheduler/`."""
    make_unet(rows, channels, **more).save_pretrained(folder / "unet")
    scheduler.save_pretrained(folder / "scheduler")
    return folder


def save_consistency(folder: Path, num_classes: int = 7) -> Path:
    """A ConsistencyModelPipeline directory, 16x16."""
    from diffusers import CMStochasticIterativeScheduler, ConsistencyModelPipeline

    ConsistencyModelPipeline(make_unet(num_classes), CMStochasticIterativeScheduler()).save_pretrained(folder)
    return folder


def save_biggan(folder: Path, num_classes: int = 12, n_stats: int = 51) -> Any:
    """config.json and pytorch_model.bin of a tiny BigGAN-deep, 32x32; returns the published network in eval mode."""
    from pytorch_pretrained_biggan.config import BigGANConfig
    from pytorch_pretrained_biggan.model import BigGAN

    torch.manual_seed(3)
    layers = [(False, 16, 16), (True, 16, 8), (True, 8, 4), (True, 4, 2), (False, 2, 1)]
    config = BigGANConfig(
        output_dim=32,
        z_dim=16,
        class_embed_dim=16,
        channel_width=8,
        num_classes=num_classes,
        layers=layers,
        attention_layer_position=2,
        n_stats=n_stats,
    )
    network = BigGAN(config)
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            if "running_means" in name:
                buffer.normal_(std=0.3)
            elif "running_vars" in name:
                buffer.uniform_(0.5, 2.0)
        network.generator.bn.weight.normal_(1.0, 0.2)
        network.generator.bn.bias.normal_(0.0, 0.2)
        for layer in network.generator.layers:
            if hasattr(layer, "gamma"):
                layer.gamma.fill_(0.7)
        network.train()
        for _ in range(3):  # lets spectral norm find its singular vectors
            network(torch.randn(2, 16), torch.eye(num_classes)[:2], 1.0)
    network.eval()
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    return network


def save_text_pipeline(folder: Path, *, xl: bool = False) -> Any:
    """A StableDiffusionPipeline directory, or an XL one, 16x16, with a letter-by-letter tokenizer; returns the pipeline."""
    from diffusers import (
        DDIMScheduler,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    words = ["<|startoftext|>", "<|endoftext|>"]
    words += [letter + end for letter in "abcdefghijklmnopqrstuvwxyz" for end in ("", "</w>")]
    spelling = folder / "spelling"
    spelling.mkdir(parents=True)
    (spelling / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (spelling / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(spelling / "vocab.json"), str(spelling / "merges.txt"), model_max_length=24)
    torch.manual_seed(4)
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=24,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        projection_dim=16,
    )
    text = CLIPTextModel(config)
    more: dict[str, Any] = {}
    if xl:  # two encoders side by side, and six numbers about sizes
        more = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + 16,
        }
    unet = UNet2DConditionModel(
        sample_size=SIDE,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32 if xl else 16,
        norm_num_groups=8,
        attention_head_dim=8,
        **more,
    )
    scheduler = DDIMScheduler(clip_sample=False, steps_offset=1)
    if xl:
        second = CLIPTextModelWithProjection(config)
        pipe = StableDiffusionXLPipeline(save_vae(None), text, second, tokenizer, tokenizer, unet, scheduler)
    else:
        pipe = StableDiffusionPipeline(
            save_vae(None), text, tokenizer, unet, scheduler, None, None, requires_safety_checker=False
        )
    pipe.save_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def one_hot(labels: Sequence[int], num_classes: int) -> torch.Tensor:
    """float32 (B, K)."""
    return torch.eye(num_classes)[list(labels)]


def streams(seeds: torch.Tensor) -> list[torch.Generator]:
    """The per-sample noise streams that our generators use, for a stock pipeline."""
    return [torch.Generator().manual_seed(int(seed)) for seed in seeds]
