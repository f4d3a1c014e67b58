"""What the generators do on a GPU: images as on a CPU, bad images, batches, compiled networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import FEW_STEPS, one_hot, save_families

from ppgen.generators import load_generator
from ppgen.generators.parts.family import is_bad
from ppgen.sources import automatic_batch_size


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_families(tmp_path_factory.mktemp("models"))


def load(folders: dict[str, Path], family: str, device: str, dtype: str = "float32", **more: Any) -> Any:
    return load_generator(
        str(folders[family]), device=device, dtype=dtype, sampling={**FEW_STEPS[family], **more}
    )


@pytest.mark.parametrize("family", sorted(FEW_STEPS))
def test_both_devices_make_the_same_pictures(folders: dict[str, Path], family: str) -> None:
    condition, seeds = one_hot([0, 1, 2, 3], 7), torch.arange(4)
    here, there = (load(folders, family, device) for device in ("cpu", "cuda"))
    a, b = here.sample_float(condition, seeds), there.sample_float(condition, seeds).cpu()
    torch.testing.assert_close(a, b, rtol=0, atol=2e-2)


def test_bad_images_are_found_on_the_device(cuda: torch.device) -> None:
    images = torch.rand(4, 3, 64, 64, device=cuda, dtype=torch.bfloat16)
    images[1, 0, 0, 0], images[2, 2, 63, 63] = float("nan"), float("inf")
    assert is_bad(images).tolist() == [False, True, True, False]


def test_the_batch_fits_with_the_decoder_in_chunks(folders: dict[str, Path]) -> None:
    generator = load(folders, "dit", "cuda", "bfloat16", decode_batch=4)
    assert automatic_batch_size(generator) == 512  # tiny images: the cap


def test_compiled_networks_make_the_same_images(folders: dict[str, Path]) -> None:
    condition, seeds = one_hot([0, 1], 7), torch.arange(2)
    plain, fast = (load(folders, "dit", "cuda", "bfloat16", compile=mode) for mode in ("none", "default"))
    images = (each.sample_float(condition, seeds) for each in (plain, fast))
    torch.testing.assert_close(*images, rtol=0, atol=0.1)


def test_graphs_return_what_plain_calls_do(folders: dict[str, Path]) -> None:
    condition, seeds = one_hot([0, 1], 7), torch.arange(2)
    plain, graphs = (load(folders, "biggan", "cuda", compile=mode) for mode in ("none", "graphs"))
    for _ in range(3):
        replayed = graphs.sample_float(condition, seeds)
    torch.testing.assert_close(plain.sample_float(condition, seeds), replayed, rtol=0, atol=1e-2)
