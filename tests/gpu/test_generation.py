"""What the generators do on a GPU: noise, bad images, batches, compilation, scoring, and what they must not wait for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import FEW_STEPS, one_hot, save_families

from ppcore.noise import PerSampleNoise
from ppcore.philox import PhiloxNoise
from ppgen.generators import compile_mode, load_generator, settle_as_planned, settle_for_plan
from ppgen.generators.parts.pixels import is_bad
from ppgen.sources import automatic_batch_size


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_families(tmp_path_factory.mktemp("models"))


def load(folders: dict[str, Path], family: str, device: str, dtype: str = "float32", **more: Any) -> Any:
    return load_generator(
        str(folders[family]), device=device, dtype=dtype, sampling={**FEW_STEPS[family], **more}
    )


def test_counters_give_the_same_bits_on_both_devices(cuda: torch.device) -> None:
    seeds = torch.tensor([0, 1, 2**62 + 12345, 2**63 - 1])
    for cut in (None, 2.0):
        here, there = PhiloxNoise(seeds), PhiloxNoise(seeds.to(cuda))
        for shape in ((4, 32, 32), (3, 5, 7), (128,)):
            assert torch.equal(here.randn(shape, cut=cut), there.randn(shape, cut=cut).cpu())


def test_noise_from_counters_is_faster_than_from_the_cpu(cuda: torch.device) -> None:
    """A batch of a 64-pixel consistency model; the CPU draws on one thread and then copies."""
    seeds, shape = torch.arange(256), (3, 64, 64)

    def seconds(make: Any) -> float:
        make()
        torch.cuda.synchronize()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        make()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end)

    counted = seconds(lambda: PhiloxNoise(seeds.to(cuda)).randn(shape))
    drawn = seconds(lambda: PerSampleNoise(seeds).randn(shape, device=cuda))
    assert counted < drawn / 2


@pytest.mark.parametrize("noise", ["cpu", "philox"])
@pytest.mark.parametrize("family", sorted(FEW_STEPS))
def test_both_devices_make_the_same_pictures(folders: dict[str, Path], family: str, noise: str) -> None:
    condition, seeds = one_hot([0, 1, 2, 3], 7), torch.arange(4)
    here, there = (load(folders, family, device, noise=noise) for device in ("cpu", "cuda"))
    a, b = here.sample_float(condition, seeds), there.sample_float(condition, seeds).cpu()
    torch.testing.assert_close(a, b, rtol=0, atol=2e-2)


@pytest.mark.parametrize("family", sorted(FEW_STEPS))
def test_sampling_with_counters_waits_for_nothing(folders: dict[str, Path], family: str) -> None:
    """Images and flags of a second batch are queued without one synchronisation; the first builds caches."""
    generator = load(folders, family, "cuda", "bfloat16", noise="philox")
    condition, seeds = one_hot([0, 1], 7).pin_memory(), torch.arange(2).pin_memory()
    generator.sample_checked(condition, seeds)
    torch.cuda.synchronize()
    try:
        torch.cuda.set_sync_debug_mode("error")
        images, bad = generator.sample_checked(condition, seeds)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert images.is_cuda
    assert bad.is_cuda
    assert not bad.any()


def test_bad_images_are_found_on_the_device(cuda: torch.device) -> None:
    images = torch.rand(4, 3, 64, 64, device=cuda, dtype=torch.bfloat16)
    images[1, 0, 0, 0], images[2, 2, 63, 63] = float("nan"), float("inf")
    assert is_bad(images).tolist() == [False, True, True, False]


def test_the_batch_fits_with_the_decoder_in_chunks(folders: dict[str, Path]) -> None:
    generator = load(folders, "dit", "cuda", "bfloat16", decode_batch=4)
    assert automatic_batch_size(generator) == 512  # tiny images: the cap


def test_compiling_is_settled_by_the_plan(
    folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    generator = load(folders, "dit", "cuda", "bfloat16")
    assert generator.describe()["sampling"]["compile"] == "auto"
    settle_for_plan(generator, batch=8, samples=16)
    assert generator.describe()["sampling"]["compile"] == "none"
    planned = load(folders, "dit", "cuda", "bfloat16")
    settle_as_planned(planned, {"sampling": {"compile": "default"}})
    assert compile_mode(planned) == "default"
    condition, seeds = one_hot([0, 1], 7), torch.arange(2)
    plain, fast = generator.sample_float(condition, seeds), planned.sample_float(condition, seeds)
    torch.testing.assert_close(plain, fast, rtol=0, atol=0.1)


def test_graphs_return_what_plain_calls_do(folders: dict[str, Path]) -> None:
    condition, seeds = one_hot([0, 1], 7), torch.arange(2)
    plain, graphs = (load(folders, "biggan", "cuda", compile=mode) for mode in ("none", "graphs"))
    for _ in range(3):
        replayed = graphs.sample_float(condition, seeds)
    torch.testing.assert_close(plain.sample_float(condition, seeds), replayed, rtol=0, atol=1e-2)
