"""What every generator promises: soft labels, seeds, batch-mates, class counts, channels; and how a source is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightningdit import save_lightningdit
from parity import save_sit, save_var
from tiny_models import (
    one_hot,
    save_biggan,
    save_consistency,
    save_dit,
    save_text_pipeline,
    save_unet,
    save_vae,
)

from ppcore.errors import UserError
from ppgen.cli.commands import app
from ppgen.generators import load_generator
from ppgen.generators.parts.family import embed
from ppgen.generators.parts.networks import load_decoder
from ppgen.sources import Generator

FAMILIES = ("dit", "sit", "lightningdit", "var", "unet", "consistency", "biggan")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from diffusers import DDIMScheduler

    root = tmp_path_factory.mktemp("models")
    save_biggan(root / "biggan", num_classes=7)
    return {
        "dit": save_dit(root / "dit", num_classes=7),
        "sit": save_sit(root / "sit", num_classes=7),
        "lightningdit": save_lightningdit(root / "lightningdit", num_classes=7),
        "var": save_var(root / "var", num_classes=7),
        "unet": save_unet(root / "unet", DDIMScheduler(clip_sample=False), rows=8),
        "consistency": save_consistency(root / "consistency", num_classes=7),
        "biggan": root / "biggan",
    }


def load(folders: dict[str, Path], family: str, **sampling: Any) -> Generator:
    """A generator of 7 classes, in few steps."""
    few = {
        "dit": {"steps": 4},
        "sit": {"steps": 4},
        "lightningdit": {"steps": 4},
        "var": {},
        "unet": {"steps": 4, "num_classes": 7},
        "consistency": {"steps": 2},
        "biggan": {},
    }
    return load_generator(str(folders[family]), sampling={**few[family], **sampling})


@pytest.mark.parametrize("family", FAMILIES)
def test_generators_follow_the_protocol(folders: dict[str, Path], family: str) -> None:
    generator = load(folders, family)
    assert isinstance(generator, Generator)
    side = {"biggan": 32, "var": 64, "lightningdit": 64}.get(family, 16)
    assert (generator.num_classes, generator.resolution, generator.channels) == (7, side, 3)
    assert generator.class_names == tuple("0123456")
    assert (generator.licence, generator.revision) == ("unknown", "local")
    images = generator.sample(one_hot([0, 5], 7), torch.tensor([1, 2]))
    assert images.shape == (2, 3, side, side)
    assert images.dtype == torch.uint8
    described = json.loads(json.dumps(generator.describe()))
    assert described["family"] == family
    assert len(described["weights_sha256"]) == 64
    assert str(folders[family]) not in json.dumps(
        described
    )  # another machine may keep the same weights elsewhere


@pytest.mark.parametrize("family", FAMILIES)
def test_batch_mates_do_not_matter(folders: dict[str, Path], family: str) -> None:
    generator = load(folders, family)
    labels, seeds = [0, 1, 2, 3, 4, 5], torch.arange(100, 106)
    images = generator.sample(one_hot(labels, 7), seeds)
    assert not torch.equal(images[0], images[1])
    for order in ([5, 4, 3, 2, 1, 0], [2, 2, 2, 2, 2, 2], [1, 0, 5, 5, 3, 2]):
        again = generator.sample(one_hot([labels[i] for i in order], 7), seeds[order])
        assert torch.equal(again, images[order])


@pytest.mark.parametrize("family", FAMILIES)
def test_label_and_seed_each_decide_the_image(folders: dict[str, Path], family: str) -> None:
    generator = load(folders, family)
    images = generator.sample_float(one_hot([1, 1, 4], 7), torch.tensor([8, 9, 8]))  # type: ignore[attr-defined]
    assert (images[0] - images[1]).abs().max() > 1e-3
    assert (images[0] - images[2]).abs().max() > 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sample_is_the_same_in_a_batch_of_1_and_of_7(folders: dict[str, Path], family: str) -> None:
    """Up to rounding, which may differ between batch sizes; the batch size is part of the plan."""
    generator = load(folders, family)
    rows = torch.cat([one_hot([0, 3, 6, 2], 7), torch.rand(3, 7).softmax(1)])
    seeds = torch.arange(40, 47)
    images = generator.sample(rows, seeds)
    alone = torch.cat([generator.sample(rows[i : i + 1], seeds[i : i + 1]) for i in range(7)])
    assert (images.int() - alone.int()).abs().max() <= 1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_soft_label_between_two_classes_differs_from_both(folders: dict[str, Path], family: str) -> None:
    rows = torch.cat([one_hot([1, 4], 7), 0.5 * one_hot([1], 7) + 0.5 * one_hot([4], 7)])
    images = load(folders, family).sample_float(rows, torch.tensor([8, 8, 8]))  # type: ignore[attr-defined]
    assert (images[2] - images[0]).abs().max() > 1e-5
    assert (images[2] - images[1]).abs().max() > 1e-5


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "var"])  # its tokens jump
def test_soft_labels_lie_between_hard_ones(folders: dict[str, Path], family: str) -> None:
    """A small step from class a towards b moves the image a small way, continuously from the hard label."""
    generator = load(folders, family)
    a, b = one_hot([1], 7), one_hot([4], 7)
    rows = torch.cat([a, 0.999 * a + 0.001 * b, b])
    images = generator.sample_float(rows, torch.tensor([8, 8, 8]))  # type: ignore[attr-defined]
    near, far = (images[1] - images[0]).abs().max(), (images[2] - images[0]).abs().max()
    assert 0 < near < 0.2 * far


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_one_hot_rows_equal_the_lookup_exactly(dtype: torch.dtype) -> None:
    table = torch.randn(1001, 64).to(dtype)
    labels = torch.tensor([0, 999, 512, 3])
    assert torch.equal(embed(table, one_hot(labels.tolist(), 1000)), table[labels])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_kept_norm_is_the_weighted_mean_and_leaves_one_hot_rows(dtype: torch.dtype) -> None:
    table = torch.randn(1001, 64).to(dtype)
    table[3] = 0
    labels = [0, 999, 512, 3]
    assert torch.equal(embed(table, one_hot(labels, 1000), keep_norm=True), table[labels])
    half = 0.5 * one_hot([5], 1000) + 0.5 * one_hot([8], 1000)
    plain, kept = embed(table, half), embed(table, half, keep_norm=True)
    mean = (table[5].float().norm() + table[8].float().norm()) / 2
    assert plain.float().norm() < 0.9 * mean
    torch.testing.assert_close(kept.float().norm(), mean, rtol=1e-2, atol=0)
    torch.testing.assert_close(kept.float() / mean, plain.float() / plain.float().norm(), rtol=0, atol=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_keep_the_norm_of_mixed_embeddings(folders: dict[str, Path], family: str) -> None:
    plain, off, kept = (
        load(folders, family, **given) for given in ({}, {"keep_norm": False}, {"keep_norm": True})
    )
    assert plain.describe() == off.describe()
    assert (
        "keep_norm" not in plain.describe()["sampling"]
    )  # plans from before the option keep their fingerprint
    assert kept.describe()["sampling"] == {**plain.describe()["sampling"], "keep_norm": True}
    hard, soft = one_hot([1, 4], 7), torch.full((2, 7), 1 / 7)
    seeds = torch.tensor([8, 9])
    assert torch.equal(kept.sample_float(hard, seeds), plain.sample_float(hard, seeds))  # type: ignore[attr-defined]
    assert torch.equal(off.sample_float(soft, seeds), plain.sample_float(soft, seeds))  # type: ignore[attr-defined]
    assert not torch.equal(kept.sample_float(soft, seeds), plain.sample_float(soft, seeds))  # type: ignore[attr-defined]
    assert plain.norm_share(hard) == pytest.approx(1)  # type: ignore[attr-defined]
    assert plain.norm_share(soft) < 0.8  # type: ignore[attr-defined]
    assert kept.norm_share(soft) == pytest.approx(1)  # type: ignore[attr-defined]


def test_every_dit_block_embeds_the_condition_by_its_own_table(folders: dict[str, Path]) -> None:
    from diffusers import DiTTransformer2DModel

    stock = DiTTransformer2DModel.from_pretrained(folders["dit"] / "transformer")
    tables = [block.norm1.emb.class_embedder.embedding_table.weight for block in stock.transformer_blocks]
    embedded = load(folders, "dit")._network.embed(one_hot([2, 6], 7))  # type: ignore[attr-defined]
    assert len(tables) == len(embedded) == 2
    for table, rows in zip(tables, embedded, strict=True):
        assert torch.equal(rows, table[[2, 6]])
    p = torch.rand(3, 7).softmax(1)
    torch.testing.assert_close(load(folders, "dit")._network.embed(p)[1], p @ tables[1][:7])  # type: ignore[attr-defined]


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
def test_the_null_label_is_the_row_after_the_last_class(tmp_path: Path, num_classes: int) -> None:
    """Moving that row, and no other, changes guided images alone."""
    from safetensors.torch import load_file, save_file

    folder = save_dit(tmp_path, num_classes=num_classes)
    condition, seeds = one_hot([0, num_classes - 1], num_classes), torch.tensor([1, 2])
    few = {"steps": 3, "guidance_interval": None}

    def images(guidance: float) -> torch.Tensor:
        generator = load_generator(str(folder), sampling={**few, "guidance": guidance})
        return generator.sample_float(condition, seeds)  # type: ignore[attr-defined]

    guided, plain = images(3.0), images(1.0)
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    tables = [name for name in state if name.endswith("class_embedder.embedding_table.weight")]
    assert {len(state[name]) for name in tables} == {num_classes + 1}
    for name in tables:
        state[name][num_classes] += 1.0
    save_file(state, file, metadata={"format": "pt"})
    assert torch.equal(images(1.0), plain)
    assert not torch.allclose(images(3.0), guided, atol=1e-4)


def test_guidance_is_spent_in_its_interval_only(folders: dict[str, Path]) -> None:
    assert load(folders, "dit", steps=20).evaluations() == 26  # type: ignore[attr-defined]
    assert load(folders, "sit", steps=20).evaluations() == 29  # type: ignore[attr-defined]
    assert load(folders, "lightningdit", steps=20).evaluations() == 26  # type: ignore[attr-defined]
    assert load(folders, "sit", steps=20, solver="flow_heun").evaluations() == 57  # type: ignore[attr-defined]
    everywhere = load(folders, "dit", steps=20, guidance_interval=None)
    assert everywhere.evaluations() == 40  # type: ignore[attr-defined]
    assert load(folders, "dit", steps=20, guidance=1).evaluations() == 20  # type: ignore[attr-defined]
    assert load(folders, "dit", steps=20, solver="heun").evaluations() == 51  # type: ignore[attr-defined]


def test_decoding_in_chunks_changes_nothing(folders: dict[str, Path]) -> None:
    condition, seeds = one_hot([0, 1, 2, 3, 4], 7), torch.arange(5)
    whole, chunked = (load(folders, "dit", decode_batch=n).sample(condition, seeds) for n in (32, 2))
    assert (whole.int() - chunked.int()).abs().max() <= 1


@pytest.mark.parametrize("force", [True, False])
def test_autoencoders_that_are_too_large_for_float16_decode_in_float32(tmp_path: Path, force: bool) -> None:
    from safetensors.torch import load_file, save_file

    save_vae(tmp_path)
    change_config(tmp_path / "config.json", force_upcast=force)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    state["decoder.conv_in.weight"] *= 1e5  # a layer of norm follows
    save_file(state, file, metadata={"format": "pt"})
    cpu, latents = torch.device("cpu"), torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))

    def images(dtype: torch.dtype) -> torch.Tensor:
        return load_decoder(tmp_path, cpu, dtype, chunk=2, compile_mode="none")(latents)

    assert torch.equal(images(torch.float16), images(torch.float32)) == force


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_pixel_models(tmp_path: Path, channels: int) -> None:
    from diffusers import DDIMScheduler

    folder = save_unet(tmp_path, DDIMScheduler(), rows=5, channels=channels)
    generator = load_generator(str(folder), sampling={"steps": 2})
    assert (generator.channels, generator.num_classes) == (channels, 5)
    assert generator.sample(one_hot([0, 4], 5), torch.arange(2)).shape == (2, channels, 16, 16)


def test_patched_models_unfold_to_twice_the_side(tmp_path: Path) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    folder = save_unet(tmp_path, FlowMatchEulerDiscreteScheduler(), rows=43, channels=4)
    generator = load_generator(str(folder), sampling={"patch": 2, "num_classes": 42, "steps": 2})
    assert (generator.channels, generator.resolution, generator.num_classes) == (1, 32, 42)
    assert generator.sample(one_hot([41], 42), torch.arange(1)).shape == (1, 1, 32, 32)
    assert generator.describe()["sampling"]["solver"] == "flow_euler"


@pytest.mark.parametrize("channels", [1, 3])
def test_latent_unets_decode_through_their_autoencoder(tmp_path: Path, channels: int) -> None:
    from diffusers import DDIMScheduler

    folder = save_unet(tmp_path, DDIMScheduler(clip_sample=False), rows=5, channels=4)
    save_vae(folder / "vae", channels)
    generator = load_generator(str(folder), sampling={"steps": 2})
    assert (generator.channels, generator.resolution) == (channels, 32)
    assert generator.sample(one_hot([0], 5), torch.arange(1)).shape == (1, channels, 32, 32)


def test_learned_variance_is_left_out(tmp_path: Path) -> None:
    from diffusers import DDIMScheduler

    folder = save_unet(tmp_path, DDIMScheduler(), rows=5, out_channels=6)
    assert (
        load_generator(str(folder), sampling={"steps": 2}).sample(one_hot([0], 5), torch.arange(1)).shape[1]
        == 3
    )


def test_text_generator_mixes_or_draws(tmp_path: Path) -> None:
    save_text_pipeline(tmp_path)
    names = ["cat", "dog"]
    mix, draw = (
        load_generator(str(tmp_path), sampling={"class_names": names, "steps": 1, "soft": soft})
        for soft in ("mix", "draw")
    )
    seeds = torch.arange(8)
    hard = [mix.sample(one_hot([k] * 8, 2), seeds) for k in (0, 1)]
    half = torch.full((8, 2), 0.5)
    drawn = draw.sample(half, seeds)
    which = [[torch.equal(drawn[i], hard[k][i]) for k in (0, 1)] for i in range(8)]
    assert all(any(pair) for pair in which)
    assert {pair.index(True) for pair in which} == {0, 1}
    assert torch.equal(draw.sample(half, seeds), drawn)
    mixed = mix.sample(half, seeds)
    assert not torch.equal(mixed, hard[0])
    assert not torch.equal(mixed, hard[1])


def test_the_negative_embedding_is_stored_once(tmp_path: Path) -> None:
    """Not once for every class: SD3 with T5 has 2.7 MB of it."""
    save_text_pipeline(tmp_path)
    names = ["cat", "dog", "fish"]
    generator: Any = load_generator(str(tmp_path), sampling={"class_names": names, "steps": 1})
    generator.sample(torch.eye(3), torch.arange(3))
    kept = [part for parts in generator._prompts.values() for part in parts.values()]
    assert [part.shape for part in kept] == [(24, 16)] * 3
    assert list(generator._negative) == ["negative_prompt_embeds"]


def test_prompts_that_are_cut_are_warned_of_and_classes_that_are_the_same_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tokenizer takes 24 tokens, here letters, with a start and an end."""
    save_text_pipeline(tmp_path / "text")
    folder = str(tmp_path / "text")
    names = ["cat", "anteater with a hat", "bird"]
    settings = [f"class_names={json.dumps(names)}", "steps=1", "resolution=16"]
    sampler = [word for setting in settings for word in ("--sampler", setting)]
    out = str(tmp_path / "out")
    app(
        ["synth", "--source", folder, "--out", out, "--per-class", "1", "--classes", "0,2", *sampler],
        standalone_mode=False,
    )
    told = capsys.readouterr().err
    assert told.count("warning: the prompts of 1 classes are longer than the 24 tokens") == 1
    assert "(class 1: 'a photo of a anteater with a hat')" in told
    for wrong in (["anteater with a hat", "anteater with a house"], ["cat", "dog", "cat"]):
        with pytest.raises(UserError, match=r"the prompts of the classes 0 \(.* are the same"):
            load_generator(folder, sampling={"class_names": wrong})
    with pytest.raises(UserError, match="a shorter prompt with"):
        load_generator(folder, sampling={"class_names": names, "prompt": "a cat"})


@pytest.mark.parametrize(
    ("family", "sampling", "message"),
    [
        ("dit", {"speed": 2}, "unknown sampling option 'speed'"),
        ("dit", {"solver": "unipc"}, "unknown solver 'unipc'; choose ddim, ddpm, dpmpp_2m"),
        ("dit", {"solver": "flow_euler"}, "does not fit"),
        ("dit", {"steps": 0}, "steps=0"),
        ("dit", {"steps": "many"}, "not of the right type"),
        ("dit", {"steps": 2000}, "2000 sampling steps"),
        ("dit", {"guidance_interval": [1.0]}, "two noise levels"),
        ("dit", {"class_names": ["one"]}, "7 classes but 1 class names"),
        ("sit", {"solver": "ddim"}, "does not fit"),
        ("sit", {"noise_at": 2}, "noise_at=2"),
        ("unet", {"num_classes": 5}, "embeds 8 classes but 5"),
        ("unet", {"patch": 2}, "patch=2"),
        ("consistency", {"guidance": 2.0}, "no null label"),
        ("consistency", {"levels": [22, 0]}, "must rise"),
        ("consistency", {"solver": "ddim"}, "does not fit"),
        ("biggan", {"truncation": 0}, "truncation"),
        ("biggan", {"compile": "auto"}, "choose none, default, graphs"),
        ("biggan", {"steps": 3}, "unknown sampling option"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    folders: dict[str, Path], family: str, sampling: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load(folders, family, **sampling)


def test_conditions_of_the_wrong_shape_are_a_bug(folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="condition"):
        load(folders, "biggan").sample(one_hot([0], 6), torch.arange(1))
    with pytest.raises(ValueError, match="seeds"):
        load(folders, "biggan").sample(one_hot([0], 7), torch.arange(2))


def test_unconditional_models_are_refused(tmp_path: Path) -> None:
    from diffusers import DDIMScheduler

    save_unet(tmp_path, DDIMScheduler(), rows=None)
    with pytest.raises(UserError, match="class table"):
        load_generator(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "value"), [("thresholding", True), ("use_flow_sigmas", True), ("timestep_type", "continuous")]
)
def test_schedulers_that_ask_the_network_differently_are_refused(
    tmp_path: Path, name: str, value: object
) -> None:
    from diffusers import DPMSolverMultistepScheduler

    folder = save_unet(tmp_path, DPMSolverMultistepScheduler(), rows=5)
    change_config(folder / "scheduler" / "scheduler_config.json", **{name: value})
    with pytest.raises(UserError, match=f"the scheduler has {name}={value}, which is not supported"):
        load_generator(str(folder))


def change_config(file: Path, **fields: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def test_the_side_of_the_images_is_a_number_a_square_or_asked_for(tmp_path: Path) -> None:
    from diffusers import DDIMScheduler

    unet = save_unet(tmp_path / "unet", DDIMScheduler(), rows=5)
    save_text_pipeline(tmp_path / "text")
    change_config(unet / "unet" / "config.json", sample_size=[16, 16])
    assert load_generator(str(unet), sampling={"steps": 1}).resolution == 16
    change_config(tmp_path / "text" / "unet" / "config.json", sample_size=[8, 8])
    names = {"class_names": ["cat", "dog"]}
    assert load_generator(str(tmp_path / "text"), sampling=names).resolution == 16
    for size in (None, [16, 24]):
        change_config(unet / "unet" / "config.json", sample_size=size)
        change_config(tmp_path / "text" / "unet" / "config.json", sample_size=size)
        for folder, sampling in ((unet, {}), (tmp_path / "text", names)):
            with pytest.raises(UserError, match="sample_size"):
                load_generator(str(folder), sampling=sampling)


def test_a_table_of_1001_rows_holds_imagenet_and_the_null_label(tmp_path: Path) -> None:
    from diffusers import DDIMScheduler

    folder = save_unet(tmp_path / "imagenet", DDIMScheduler(), rows=1001)
    generator = load_generator(str(folder))
    assert generator.num_classes == 1000
    assert generator.describe()["sampling"]["guidance"] == 1.5
    assert load_generator(str(folder), sampling={"num_classes": 1001}).num_classes == 1001
    small = save_unet(tmp_path / "small", DDIMScheduler(), rows=11)
    assert load_generator(str(small)).num_classes == 11
    with pytest.raises(UserError, match="num_classes if the last row of its class table is the null label"):
        load_generator(str(small), sampling={"guidance": 2})


def test_karras_spacing_needs_some_signal_at_every_level(tmp_path: Path) -> None:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction")
    folder = save_unet(tmp_path, scheduler, rows=5)
    with pytest.raises(UserError, match="spacing 'karras' needs a model"):
        load_generator(str(folder), sampling={"spacing": "karras"})


def test_compiling_needs_a_compiler(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(UserError, match="install one or use compile=none"):
        load(folders, "biggan", compile="default")


@pytest.mark.parametrize("family", ["dit", "sit", "lightningdit", "var", "unet", "biggan"])
def test_compiling_changes_nothing(
    folders: dict[str, Path], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graphs as they are captured, without the minutes that generating machine code for them takes."""
    import functools

    captured = functools.partial(torch.compile, backend="eager")
    monkeypatch.setattr(torch, "compile", captured)
    condition, seeds = one_hot([0, 1, 2], 7), torch.arange(3)
    plain, fast = (load(folders, family, compile=mode) for mode in ("none", "default"))
    assert fast.describe()["sampling"]["compile"] == "default"
    torch.testing.assert_close(
        fast.sample_float(condition, seeds),  # type: ignore[attr-defined]
        plain.sample_float(condition, seeds),  # type: ignore[attr-defined]
        rtol=0,
        atol=1e-4,
    )
