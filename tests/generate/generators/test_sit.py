"""SiT and REPA against the published code (see parity.py), and the directories that are opened or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import parity
import pytest
import torch
from safetensors.torch import save_file
from tiny_models import one_hot, save_vae

from ppcore.errors import UserError
from ppgen.generators import load_generator
from ppgen.generators.parts import diffusion

NAMES = ("sit-tiny", "repa-tiny")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sit")
    return {name: parity.save_sit(root / name, name, wrap=name == "repa-tiny") for name in NAMES}


def load(folder: Path, **sampling: Any) -> Any:
    return load_generator(str(folder), sampling={"steps": 8, **sampling})


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference, in parts of the largest value."""
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("name", NAMES)
def test_one_evaluation_equals_the_published_code(folders: dict[str, Path], name: str) -> None:
    """At the times of the record, which are no levels of a sampler."""
    from dataclasses import replace

    from ppcore.classifiers import read_weights
    from ppgen.generators import sit

    known, io = parity.facts(name), parity.recorded(name)
    state = read_weights(folders[name] / "last.pt")
    state = {key: tensor for key, tensor in state.items() if not key.startswith("projectors")}
    config = sit.SiTConfig(known["num_heads"], known["input_size"])
    shape, learns = sit.require_sit(state, config, "here")
    assert (shape, learns) == ((4, 8, 8), name == "sit-tiny")
    schedule = sit.make_schedule(sit.SiTOptions(solver="flow_euler", steps=4, noise_at=1))
    schedule = replace(schedule, timesteps=tuple(io["t"].tolist()))
    network = sit.read_network(
        state, config, schedule, shape, device=torch.device("cpu"), dtype=torch.float32, compile_mode="none"
    )
    table = state["y_embedder.embedding_table.weight"]
    with torch.inference_mode():
        rows = [
            network.predict(io["x"][i : i + 1], i, table[io["y"][i]][None, None], guided=False)
            for i in range(4)
        ]
    assert error(torch.cat(rows), io["velocity"]) < 1e-5


def test_published_guidance_of_three_channels(folders: dict[str, Path]) -> None:
    io = parity.recorded("sit-tiny")
    generator = load(
        folders["sit-tiny"],
        solver="flow_euler",
        steps=10,
        guidance=4.0,
        guidance_interval=None,
        guidance_channels=3,
    )
    level = 3  # time 0.3
    with torch.inference_mode():
        embedded = generator._network.embed(one_hot(io["cfg_y"][:2].tolist(), 10))
        velocity = generator._predict(io["cfg_x"][:2], level, embedded, True)
    assert error(velocity, io["cfg_velocity_three_channels"][:2, :4]) < 1e-5


@pytest.mark.parametrize(
    ("name", "start", "end", "labels", "options"),
    [
        ("sit-tiny", "euler_start", "euler_end", "euler_labels", {"solver": "flow_euler", "guidance": 1.5}),
        ("repa-tiny", "start", "euler_end", "labels", {"solver": "flow_euler", "guidance": 1.8}),
        ("repa-tiny", "start", "heun_end", "labels", {"solver": "flow_heun", "guidance": 1.8}),
    ],
)
def test_sampling_equals_the_published_code(
    folders: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    start: str,
    end: str,
    labels: str,
    options: dict[str, Any],
) -> None:
    io = parity.recorded(name)
    # REPA guides where time, the share of noise, is at most 0.7.
    interval = [0.0, 0.7 / 0.3] if name == "repa-tiny" else None
    generator = load(folders[name], guidance_interval=interval, **options)
    monkeypatch.setattr(
        diffusion, "PerSampleNoise", lambda seeds: type("Noise", (), {"randn": lambda *_, **__: io[start]})()
    )
    generator._decoder = lambda latents: latents
    found = generator.sample_float(one_hot(io[labels].tolist(), generator.num_classes), torch.arange(2))
    assert error(found, io[end]) < 1e-4


def test_every_missing_or_foreign_weight_is_an_error_that_names_it(tmp_path: Path) -> None:
    state = parity.draw(parity.facts("sit-tiny")["weights"])
    save_vae(tmp_path / "vae")
    (tmp_path / "config.json").write_text(json.dumps({"num_heads": 4, "input_size": 8, "depth": 3}))

    def message(changed: dict[str, torch.Tensor]) -> str:
        save_file(changed, tmp_path / "model.safetensors")
        with pytest.raises(UserError) as caught:
            load(tmp_path)
        return str(caught.value)

    for name in state:
        told = message({key: tensor for key, tensor in state.items() if key != name})
        assert name in told or "no known generator" in told  # without the label table it is no SiT
    odd = message({**state, "blocks.3.attn.qkv.weight": torch.zeros(1), "more": torch.zeros(1)})
    assert "unexpected: blocks.3.attn.qkv.weight, more" in odd
    other = message({**state, "t_embedder.mlp.0.weight": torch.zeros(48, 255)})
    assert "t_embedder.mlp.0.weight (48, 255) instead of (48, 256)" in other


def test_a_shorter_network_than_its_configuration_is_an_error(tmp_path: Path) -> None:
    parity.save_sit(tmp_path)
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    torch.save({key: v for key, v in state.items() if not key.startswith("blocks.2.")}, tmp_path / "last.pt")
    with pytest.raises(UserError, match=r"missing: blocks\.2\."):
        load(tmp_path)


def test_layouts_of_the_published_weights(folders: dict[str, Path], tmp_path: Path) -> None:
    """A state dict, the average in a checkpoint, safetensors in `transformer/`, with and without the position table: equal images."""
    condition, seeds = one_hot([0, 9], 10), torch.tensor([1, 2])
    wanted = load(folders["sit-tiny"]).sample(condition, seeds)
    state = parity.draw(parity.facts("sit-tiny")["weights"])
    wrapped = parity.save_sit(tmp_path / "wrapped", wrap=True)
    assert torch.equal(load(wrapped).sample(condition, seeds), wanted)
    nested = tmp_path / "nested"
    save_vae(nested / "vae")
    (nested / "transformer").mkdir()
    positions = load(folders["sit-tiny"])._network._core.pos_embed.pos_embed.clone()
    save_file(
        {**state, "pos_embed": positions}, nested / "transformer" / "diffusion_pytorch_model.safetensors"
    )
    (nested / "transformer" / "config.json").write_text(
        json.dumps({"_class_name": "SiTTransformer2DModel", "num_heads": 4})
    )
    assert torch.equal(load(nested).sample(condition, seeds), wanted)
    pipeline = {"_class_name": ["pipeline", "SiTPipeline"], "vae": ["diffusers", "AutoencoderKL"]}
    (nested / "model_index.json").write_text(json.dumps(pipeline))
    assert torch.equal(
        load(nested).sample(condition, seeds), wanted
    )  # the code of the directory does not run
    described = load(nested).describe()
    assert (described["family"], described["sampling"]["noise_at"]) == ("sit", 0)
    assert load(folders["repa-tiny"]).describe()["sampling"]["noise_at"] == 1


def test_directories_that_are_refused(tmp_path: Path) -> None:
    folder = parity.save_sit(tmp_path / "sit")
    (folder / "vae").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"no autoencoder; put the files of stabilityai/sd-vae-ft-ema into"):
        load(folder)
    (tmp_path / "elsewhere").rename(folder / "vae")
    (folder / "last.pt").rename(folder / "DiT-XL-2-256x256.pt")
    with pytest.raises(UserError, match="DiT, whose weights have the same names"):
        load(folder)
    (folder / "DiT-XL-2-256x256.pt").rename(folder / "a.pt")
    torch.save(torch.load(folder / "a.pt", weights_only=True), folder / "b.pt")
    with pytest.raises(UserError, match=r"found a\.pt, b\.pt; give each model a folder"):
        load(folder)
