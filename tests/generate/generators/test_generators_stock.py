"""Our sampling against the published code: same weights, same noise, hard labels, float32 before rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import (
    make_unet,
    one_hot,
    save_biggan,
    save_consistency,
    save_dit,
    save_text_pipeline,
    save_unet,
    streams,
)

from ppcore.errors import UserError
from ppcore.seeds import PerSampleNoise
from ppgen.generators import load_generator

SEEDS = torch.tensor([11, 12, 13])
CLOSE = {"rtol": 0.0, "atol": 1e-4}


def unit(images: torch.Tensor) -> torch.Tensor:
    """[-1, 1] -> [0, 1], clamped, as the stock pipelines return their images."""
    return (images / 2 + 0.5).clamp(0, 1)


@pytest.fixture(scope="module")
def dit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    from diffusers import DiTPipeline

    folder = save_dit(tmp_path_factory.mktemp("dit"), num_classes=1000)
    pipe = DiTPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return folder, pipe


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m"])
def test_dit_equals_the_stock_pipeline(dit: tuple[Path, Any], solver: str, guidance: float) -> None:
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    folder, pipe = dit
    kind = {"ddim": DDIMScheduler, "dpmpp_2m": DPMSolverMultistepScheduler}[solver]
    pipe.scheduler = kind.from_config(pipe.scheduler.config)
    labels = [3, 999, 0]
    stock = pipe(
        labels, guidance_scale=guidance, generator=streams(SEEDS), num_inference_steps=10, output_type="pt"
    ).images
    sampling = {"solver": solver, "steps": 10, "guidance": guidance, "guidance_interval": None}
    ours = load_generator(str(folder), sampling=sampling).sample_float(one_hot(labels, 1000), SEEDS)  # type: ignore[attr-defined]
    torch.testing.assert_close(unit(ours), stock, **CLOSE)


def test_dit_rounds_to_the_stock_pipeline_s_pixels(dit: tuple[Path, Any]) -> None:
    import numpy as np
    from diffusers import DDIMScheduler

    folder, pipe = dit
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    stock = pipe([3, 999, 0], guidance_scale=1.0, generator=streams(SEEDS), num_inference_steps=5).images
    sampling = {"solver": "ddim", "steps": 5, "guidance": 1}
    ours = load_generator(str(folder), sampling=sampling).sample(one_hot([3, 999, 0], 1000), SEEDS)
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in stock])).permute(0, 3, 1, 2)
    assert ours.dtype == torch.uint8
    assert (
        ours.int() - pixels.int()
    ).abs().max() <= 1  # a value within rounding error of .5 may go either way
    assert (ours == pixels).float().mean() > 0.999


@pytest.mark.parametrize(
    ("stock_options", "ours_options"),
    [
        ({"num_inference_steps": 1}, {}),
        ({"num_inference_steps": 2}, {"steps": 2}),
        ({"num_inference_steps": None, "timesteps": [22, 0]}, {"levels": [0, 22]}),
    ],
)
def test_consistency_model_equals_the_stock_pipeline(
    tmp_path: Path, stock_options: dict[str, Any], ours_options: dict[str, Any]
) -> None:
    from diffusers import ConsistencyModelPipeline

    folder = save_consistency(tmp_path)
    pipe = ConsistencyModelPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    labels = [3, 6, 0]
    stock = pipe(
        batch_size=3, class_labels=labels, generator=streams(SEEDS), output_type="pt", **stock_options
    ).images
    ours = load_generator(str(folder), sampling=ours_options).sample_float(one_hot(labels, 7), SEEDS)  # type: ignore[attr-defined]
    torch.testing.assert_close(unit(ours), stock, **CLOSE)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_unet_with_ddim_equals_the_stock_scheduler(tmp_path: Path, prediction: str) -> None:
    from diffusers import DDIMScheduler

    # Little noise at the end of training: from nearly pure noise an untrained network's clean estimate is its rounding error
    # times 157, and two float32 loops of the stock code differ by more than the bound.
    scheduler = DDIMScheduler(timestep_spacing="trailing", prediction_type=prediction, beta_end=0.004)
    folder = save_unet(tmp_path, scheduler, rows=8)
    sampling = {"num_classes": 7, "solver": "ddim", "steps": 10, "guidance": 2, "guidance_interval": None}
    labels = [3, 6, 0]
    ours = load_generator(str(folder), sampling=sampling).sample_float(one_hot(labels, 7), SEEDS)  # type: ignore[attr-defined]
    torch.testing.assert_close(
        ours, stock_ddim(make_unet(8).eval(), scheduler, labels, null=7, guidance=2.0), **CLOSE
    )


def test_unet_from_noise_without_signal_equals_the_stock_scheduler(tmp_path: Path) -> None:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(
        timestep_spacing="trailing",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        clip_sample=False,
    )
    folder = save_unet(tmp_path, scheduler, rows=8)
    sampling = {"num_classes": 7, "steps": 10, "guidance": 2, "guidance_interval": None}
    ours = load_generator(str(folder), sampling={**sampling, "solver": "ddim"}).sample_float(  # type: ignore[attr-defined]
        one_hot([3, 6, 0], 7), SEEDS
    )
    torch.testing.assert_close(ours, stock_ddim(make_unet(8).eval(), scheduler, [3, 6, 0], 7, 2.0), **CLOSE)
    for solver in ("dpmpp_2m", "ddpm"):
        images = load_generator(
            str(folder), sampling={**sampling, "solver": solver}
        ).sample_float(  # type: ignore[attr-defined]
            one_hot([3], 7), SEEDS[:1]
        )
        assert images.isfinite().all()
    with pytest.raises(UserError, match="heun"):
        load_generator(str(folder), sampling={**sampling, "solver": "heun"})


def test_unet_with_ddpm_equals_the_stock_scheduler(tmp_path: Path) -> None:
    """At all training steps, where DDPM's own variance and the one of its shortened form agree."""
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(num_train_timesteps=20, clip_sample=False)
    folder = save_unet(tmp_path, scheduler, rows=7)
    ours = load_generator(
        str(folder), sampling={"solver": "ddpm", "steps": 20}
    ).sample_float(  # type: ignore[attr-defined]
        one_hot([1], 7), SEEDS[:1]
    )
    unet, stream = make_unet(7).eval(), streams(SEEDS)[0]
    x = torch.randn(1, 3, 16, 16, generator=stream)
    scheduler.set_timesteps(20)
    with torch.no_grad():
        for t in scheduler.timesteps:
            output = unet(x, t, class_labels=torch.tensor([1])).sample
            x = scheduler.step(output, t, x, generator=stream).prev_sample
    torch.testing.assert_close(ours, x, **CLOSE)


@pytest.mark.parametrize("inverted", [False, True])
def test_unet_with_flow_matching_equals_the_stock_scheduler(tmp_path: Path, inverted: bool) -> None:
    """An inverted network is asked with the share of data as its time and returns data - noise."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=2.0, invert_sigmas=inverted)
    folder = save_unet(tmp_path, scheduler, rows=7)
    ours = load_generator(str(folder), sampling={"steps": 4}).sample_float(one_hot([1, 2, 3], 7), SEEDS)  # type: ignore[attr-defined]
    unet = make_unet(7).eval()
    x = PerSampleNoise(SEEDS).randn((3, 16, 16))
    scheduler.set_timesteps(4, sigmas=[1.0, 0.75, 0.5, 0.25])
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(unet(x, t, class_labels=torch.tensor([1, 2, 3])).sample, t, x).prev_sample
    torch.testing.assert_close(ours, x, **CLOSE)


@pytest.mark.parametrize("truncation", [1.0, 0.4])
def test_biggan_equals_the_published_network(tmp_path: Path, truncation: float) -> None:
    from ppgen.generators.biggan import truncated_normal

    network = save_biggan(tmp_path)
    condition = torch.rand(3, 12).softmax(1)
    ours = load_generator(str(tmp_path), sampling={"truncation": truncation}).sample_float(condition, SEEDS)  # type: ignore[attr-defined]
    noise = truncated_normal(PerSampleNoise(SEEDS).randn((16,)), truncation)
    with torch.no_grad():
        stock = network(noise, condition, truncation)
    torch.testing.assert_close(ours, stock, **CLOSE)


def test_biggan_reads_files_from_before_pytorch_1_1(tmp_path: Path) -> None:
    """They hold the divided weight and no second singular vector."""
    network = save_biggan(tmp_path)
    condition = one_hot([1, 2, 3], 12)
    new = load_generator(str(tmp_path)).sample(condition, SEEDS)
    state = network.state_dict()
    old = {name: tensor for name, tensor in state.items() if not name.endswith("weight_v")}
    for name in state:
        if name.endswith("weight_orig"):
            stem = name.removesuffix("_orig")
            sigma = torch.dot(state[f"{stem}_u"], state[name].flatten(1) @ state[f"{stem}_v"])
            old[stem] = state[name] / sigma
    torch.save(old, tmp_path / "pytorch_model.bin")
    same = load_generator(str(tmp_path)).sample(condition, SEEDS)
    assert (same.int() - new.int()).abs().max() <= 1


def test_biggan_interpolates_standing_statistics_the_right_way(tmp_path: Path) -> None:
    """Between two levels the published code swaps the weights: near the lower level it must look like the lower level."""
    save_biggan(tmp_path, n_stats=3)  # levels 0, 0.5 and 1
    condition = one_hot([1, 2, 3], 12)

    def images(truncation: float) -> torch.Tensor:
        generator = load_generator(str(tmp_path), sampling={"truncation": truncation})
        return generator.sample_float(condition, SEEDS)  # type: ignore[attr-defined]

    exact, near, far = images(0.5), images(0.501), images(0.999)
    assert (near - exact).abs().mean() < 0.05 * (far - exact).abs().mean()


@pytest.mark.parametrize("negative", ["", "blurred"])
@pytest.mark.parametrize("xl", [False, True])
def test_text_pipeline_equals_the_stock_pipeline(tmp_path: Path, xl: bool, negative: str) -> None:
    pipe = save_text_pipeline(tmp_path, xl=xl)
    names = ["cat", "dog", "fish"]
    stock = pipe(
        [f"a photo of a {name}" for name in names],
        generator=streams(SEEDS),
        num_inference_steps=2,
        guidance_scale=2.0,
        output_type="pt",
        **({"negative_prompt": [negative] * 3} if negative else {}),
    ).images
    sampling = {"class_names": names, "steps": 2, "negative": negative}
    generator = load_generator(str(tmp_path), sampling=sampling)
    ours = generator.sample(torch.eye(3), SEEDS)
    assert (ours.int() - (stock * 255).round().int()).abs().max() <= 1


def test_truncated_noise_has_the_published_distribution() -> None:
    from ppgen.generators.biggan import truncated_normal

    noise = truncated_normal(torch.randn(200_000, generator=torch.Generator().manual_seed(0)), 0.5)
    assert noise.abs().max() <= 1.0
    assert noise.std() == pytest.approx(0.5 * 0.8796, rel=0.01)  # scipy.stats.truncnorm(-2, 2).std() = 0.8796


def stock_ddim(unet: Any, scheduler: Any, labels: list[int], null: int, guidance: float) -> torch.Tensor:
    """The plain loop around the stock modules."""
    x = PerSampleNoise(SEEDS).randn((3, 16, 16))
    scheduler.set_timesteps(10)
    with torch.no_grad():
        for t in scheduler.timesteps:
            conditional = unet(x, t, class_labels=torch.tensor(labels)).sample
            plain = unet(x, t, class_labels=torch.full((3,), null)).sample
            x = scheduler.step(plain + guidance * (conditional - plain), t, x).prev_sample
    return x
