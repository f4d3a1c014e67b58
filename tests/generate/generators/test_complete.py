"""No weight is made up: a model that is not whole, or not of its family, is refused with the names of what is wrong."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import save_biggan, save_consistency, save_dit, save_text_pipeline, save_unet, save_vae

from ppcore.classifiers import read_weights
from ppcore.errors import UserError
from ppgen.generators import load_generator
from ppgen.generators.biggan import BigGANConfig, build
from ppgen.generators.parts.networks import load_component
from ppgen.sources import read_config

State = dict[str, torch.Tensor]


def save_text(folder: Path) -> None:
    save_text_pipeline(folder)


def save_pixels(folder: Path) -> None:
    from diffusers import DDIMScheduler

    save_unet(folder, DDIMScheduler(), rows=8)


MODELS: dict[str, tuple[Callable[[Path], Any], dict[str, str]]] = {
    "dit": (save_dit, {"transformer": "DiTTransformer2DModel", "vae": "AutoencoderKL"}),
    "unet": (save_pixels, {"unet": "UNet2DModel"}),
    "consistency": (save_consistency, {"unet": "UNet2DModel"}),
    "text": (
        save_text,
        {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"},
    ),
}
"""Family -> how a tiny model of it is saved, and the networks in its folders. test_sit.py holds the same for SiT."""
PARTS = [(family, part) for family, (_, parts) in MODELS.items() for part in parts]


def message(call: Callable[..., object], *arguments: Any, **named: Any) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments, **named)
    return str(caught.value)


def open_source(folder: Path) -> str:
    sampling: dict[str, Any] = {"steps": 1} if "biggan" not in folder.name else {}
    if folder.name == "text":
        sampling |= {"class_names": ["dog", "cat"]}
    return message(load_generator, str(folder), sampling=sampling)


def mistakes(state: State, names: list[str]) -> Iterator[tuple[str, State]]:
    """(a weight, the state dict without it, or with it in another shape, or with a further one of that name).

    Each weight is left out; one of eight, which is as good as any other, is of another shape."""
    for number, name in enumerate(names):
        yield name, {key: value for key, value in state.items() if key != name}
        if number % 8:
            continue
        shape = state[name].shape
        yield name, {**state, name: torch.zeros(*shape[:-1], (*shape, 0)[len(shape) - 1] + 1)}
    yield "more.weight", {**state, "more.weight": torch.zeros(2)}


def write(state: State, file: Path) -> None:
    save_file(state, file, metadata={"format": "pt"})


@pytest.mark.parametrize(("family", "part"), PARTS)
def test_sources_with_wrong_weights_are_refused(family: str, part: str, tmp_path: Path) -> None:
    folder = tmp_path / family
    MODELS[family][0](folder)
    file = next((folder / part).glob("*.safetensors"))
    state = load_file(file)
    labels = [name for name in state if "class_embed" in name or "token_embedding" in name]
    for name, wrong in mistakes(state, (labels or list(state))[:1]):
        write(wrong, file)
        told = open_source(folder)
        assert name in told
        assert str(folder / part) in told


@pytest.mark.parametrize(
    ("family", "part"), [("dit", "transformer"), ("dit", "vae"), ("unet", "unet"), ("text", "text_encoder")]
)
def test_every_weight_of_a_component_is_missed(family: str, part: str, tmp_path: Path) -> None:
    save, parts = MODELS[family]
    save(tmp_path)
    file = next((tmp_path / part).glob("*.safetensors"))
    state = load_file(file)
    library = "transformers" if part == "text_encoder" else "diffusers"
    for name, wrong in mistakes(state, list(state)):
        write(wrong, file)
        arguments = (parts[part], tmp_path / part, torch.device("cpu"), torch.float32)
        assert name in message(load_component, *arguments, library=library)


def test_every_weight_of_a_biggan_is_missed(tmp_path: Path) -> None:
    save_biggan(tmp_path)
    config = read_config(tmp_path / "config.json", BigGANConfig)
    state = read_weights(tmp_path / "pytorch_model.bin")
    old = dict(state)  # as PyTorch before 1.1 wrote it
    for name in [name for name in state if name.endswith("_v")]:
        old[name.removesuffix("_v")] = old.pop(name).new_zeros(state[name.replace("_v", "_orig")].shape)
    for whole in (state, old):
        for name, wrong in mistakes(whole, list(whole)):
            told = message(build, config, wrong, 1.0, "here")
            # Without one part of a spectral norm the message names another.
            assert name in told or name.removesuffix("_orig") in told
    torch.save(
        {key: value for key, value in state.items() if key != "embeddings.weight"},
        tmp_path / "pytorch_model.bin",
    )
    assert "missing: embeddings.weight" in open_source(tmp_path)


def test_a_model_in_several_files_is_whole(tmp_path: Path) -> None:
    vae = save_vae(None)
    vae.save_pretrained(tmp_path, max_shard_size="20KB")
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) > 1
    load = ("AutoencoderKL", tmp_path, torch.device("cpu"), torch.float32)
    load_component(*load)
    for file in files:
        state = load_file(file)
        name = next(iter(state))
        write({key: value for key, value in state.items() if key != name}, file)
        assert f"missing: {name}" in message(load_component, *load)
        write(state, file)


def test_models_of_other_classes_are_refused(tmp_path: Path) -> None:
    from diffusers import AutoencoderTiny

    folder = save_dit(tmp_path / "dit")
    config = folder / "transformer" / "config.json"
    fields = json.loads(config.read_text())
    config.write_text(json.dumps({**fields, "_class_name": "Transformer2DModel"}))  # as DiT is published
    load_generator(str(folder), sampling={"steps": 1})
    config.write_text(json.dumps({**fields, "_class_name": "PixArtTransformer2DModel"}))
    assert "holds the model PixArtTransformer2DModel; expected DiTTransformer2DModel" in open_source(folder)
    config.write_text(json.dumps(fields))
    shutil.rmtree(folder / "vae")
    AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).save_pretrained(folder / "vae")
    assert "holds the model AutoencoderTiny; expected AutoencoderKL" in open_source(folder)


def test_what_earlier_versions_of_the_libraries_wrote_is_read(tmp_path: Path) -> None:
    """Other names in the attention of autoencoders, and tables that are computed today."""
    save_text(tmp_path / "text")
    vae = next((tmp_path / "text/vae").glob("*.safetensors"))
    former = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(vae)
    renamed = {
        re.sub("to_[qkv]|to_out.0", lambda m: former[m[0]], name): value for name, value in state.items()
    }
    assert renamed.keys() != state.keys()
    write(renamed, vae)
    encoder = next((tmp_path / "text/text_encoder").glob("*.safetensors"))
    state = load_file(encoder)
    name = next(name for name in state if "position_embedding" in name).replace(
        "position_embedding.weight", "position_ids"
    )
    write({**state, name: torch.arange(24)[None]}, encoder)
    load_generator(str(tmp_path / "text"), sampling={"class_names": ["dog", "cat"], "steps": 1})
