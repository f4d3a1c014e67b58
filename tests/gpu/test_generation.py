"""What the generators do on a GPU: images as on a CPU, bad images, batches, compiled networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightningdit import save_lightningdit
from parity import save_sit, save_var
from tiny_models import one_hot, save_biggan, save_consistency, save_dit

from ppgen.generators import load_generator
from ppgen.generators.parts.family import is_bad
from ppgen.sources import automatic_batch_size

FEW_STEPS: dict[str, dict[str, Any]] = {
    "dit": {"steps": 3},
    "sit": {"steps": 3},
    "lightningdit": {"steps": 3},
    "var": {},
    "consistency": {"steps": 2},
    "biggan": {},
}
"""Family -> sampling options with which its tiny model is fast."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    save: dict[str, Callable[..., Any]] = {
        "dit": save_dit,
        "sit": save_sit,
        "lightningdit": save_lightningdit,
        "var": save_var,
        "consistency": save_consistency,
        "biggan": save_biggan,
    }
    for family, function in save.items():
        function(root / family, num_classes=7)
    return {family: root / family for family in save}


def load(folders: dict[str, Path], family: str, device: str, dtype: str = "float32", **more: Any) -> Any:
    return load_generator(
        str(folders[family]), device=device, dtype=dtype, sampling={**FEW_STEPS[family], **more}
    )


@pytest.mark.parametrize("family", sorted(FEW_STEPS))
def test_both_devices_make_the_same_pictures(
    folders: dict[str, Path], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Convolutions in TF32 are off by a thousandth, and then a token of VAR may become another.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
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


@pytest.mark.parametrize(
    ("family", "dtype"),
    [("dit", "bfloat16"), ("sit", "bfloat16"), ("var", "float32")],  # in bfloat16 the tokens of VAR jump
)
def test_compiled_networks_make_the_same_images(folders: dict[str, Path], family: str, dtype: str) -> None:
    condition, seeds = one_hot([0, 1], 7), torch.arange(2)
    plain, fast = (load(folders, family, "cuda", dtype, compile=mode) for mode in ("none", "default"))
    images = (each.sample_float(condition, seeds) for each in (plain, fast))
    torch.testing.assert_close(*images, rtol=0, atol=0.1)


def test_graphs_return_what_plain_calls_do(folders: dict[str, Path]) -> None:
    condition, seeds = one_hot([0, 1], 7), torch.arange(2)
    plain, graphs = (load(folders, "biggan", "cuda", compile=mode) for mode in ("none", "graphs"))
    for _ in range(3):
        replayed = graphs.sample_float(condition, seeds)
    torch.testing.assert_close(plain.sample_float(condition, seeds), replayed, rtol=0, atol=1e-2)
